"""The verbs, grouped as the help shows them. A verb's module is imported only when the verb is used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One verb: its name, the module that has its `command`, and the line that the list shows."""

    name: str
    module: str
    summary: str


def _verb(name: str, summary: str, module: str | None = None) -> Verb:
    return Verb(name=name, module=f"alva.cli.{module or name}", summary=summary)


GROUPS: tuple[tuple[str, tuple[Verb, ...]], ...] = (
    (
        "The local region",
        (
            _verb("up", "start the local region and release into it; repeat as you like"),
            _verb("down", "stop the local region; --wipe forgets its data, and asks"),
        ),
    ),
    (
        "Release",
        (
            _verb("synth", "write the templates to .alva/cdk.out"),
            _verb("preflight", "what can be known to fail before anything is touched"),
            _verb("build", "the images alone; prints NAME=DIGEST, as deploy --image takes it"),
            _verb("diff", "what a release would change; what stands out first"),
            _verb("deploy", "release: stacks, images, migration, services, verification"),
            _verb("migrate", "run the migration alone"),
            _verb("verify", "named checks against what runs"),
            _verb("releases", "the ledger of releases"),
            _verb("rollback", "a new release of an earlier one's images"),
            _verb("summary", "the last release as Markdown, for a pipeline's page"),
        ),
    ),
    (
        "Look",
        (
            _verb("open", "show the environment in a browser"),
            _verb("status", "what runs where, and since when"),
            _verb("logs", "logs of one or all services"),
            _verb("why", "cause, evidence and next step of what fails or failed"),
            _verb("cost", "what a month costs, and what each saving would change"),
            _verb("draw", "write the architecture, or what a release changes, as SVG"),
        ),
    ),
    (
        "Operate",
        (
            _verb("run", "a one-off task with a service's environment"),
            _verb("exec", "a shell or a command in a running task"),
            _verb("secrets", "list, init, set, restart, audit, check"),
            _verb("lock", "who holds the environment, or hold it"),
            _verb("unlock", "take the lock from whoever holds it"),
            _verb("sleep", "stop tasks and database until woken; what that saves"),
            _verb("wake", "start what sleep stopped, and verify it"),
            _verb("bootstrap", "prepare an AWS account, once"),
            _verb("destroy", "delete an environment; says what goes, stays, costs"),
        ),
    ),
    (
        "Develop",
        (
            _verb("test", "the tests; arguments go to pytest"),
            _verb("completion", "the script that completes verbs and options in a shell"),
            _verb("check", "what CI runs: lint, types, architecture, fast tests"),
        ),
    ),
)

VERBS: dict[str, Verb] = {verb.name: verb for _, verbs in GROUPS for verb in verbs}
