"""The verbs, grouped as in the help. A verb's module is imported only when it is used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A verb: its name, the module of its `command`, and its line in the list."""

    name: str
    module: str
    summary: str


def _verb(name: str, summary: str, module: str | None = None) -> Verb:
    return Verb(name=name, module=f"alva.cli.{module or name}", summary=summary)


GROUPS: tuple[tuple[str, tuple[Verb, ...]], ...] = (
    (
        "The local region",
        (
            _verb("up", "start the local region and release into it"),
            _verb("down", "stop the local region; --wipe deletes its data"),
        ),
    ),
    (
        "Release",
        (
            _verb("synth", "write the templates to .alva/cdk.out/ENVIRONMENT/"),
            _verb("preflight", "check a release without changing anything"),
            _verb("build", "build images; prints NAME=DIGEST for deploy --image"),
            _verb("diff", "show what a release would change, risky changes first"),
            _verb("deploy", "release: stacks, images, migration, services, verification"),
            _verb("migrate", "run only the migration"),
            _verb("verify", "check the running environment"),
            _verb("releases", "list the releases"),
            _verb("rollback", "release the images of an earlier release again"),
            _verb("summary", "print the last release as Markdown"),
        ),
    ),
    (
        "Observe",
        (
            _verb("open", "show the environment in a browser"),
            _verb("status", "show what runs, and whether it works"),
            _verb("logs", "show the logs of one or all services"),
            _verb("why", "show cause, evidence and next step of a failure"),
            _verb("cost", "show the monthly cost, and the effect of each saving"),
            _verb("draw", "write the architecture, or what a release changes, as SVG"),
        ),
    ),
    (
        "Operate",
        (
            _verb("run", "run a one-off task with a service's environment"),
            _verb("exec", "open a shell or run a command in a running task"),
            _verb("secrets", "list, generate, set, rotate and check secrets"),
            _verb("lock", "show who holds the environment's lock, or take it"),
            _verb("unlock", "free the environment's lock"),
            _verb("sleep", "stop all tasks and the database until wake"),
            _verb("wake", "start what sleep stopped, and verify it"),
            _verb("bootstrap", "prepare an AWS account, once"),
            _verb("destroy", "delete an environment"),
        ),
    ),
    (
        "Develop",
        (
            _verb("test", "run the tests; arguments are passed to pytest"),
            _verb("completion", "print the completion script of a shell"),
            _verb("check", "run CI's fast checks: lint, types, architecture, tests"),
        ),
    ),
)

VERBS: dict[str, Verb] = {verb.name: verb for _, verbs in GROUPS for verb in verbs}
