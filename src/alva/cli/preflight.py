"""`./alva preflight`: checks a release without changing anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from alva.cli.build import choose_builder
from alva.cli.deploy import allow_option, findings, given_digests
from alva.cli.invocation import Invocation, verb
from alva.cli.synth import synth_step
from alva.cli.verify import show_checks

if TYPE_CHECKING:
    from alva.checks.assembly import Assembly


@verb(
    summary="Check a release without changing anything: account, templates and their rules, images, secrets, running "
    "services, alarms. Exits with 3 if a check fails."
)
@click.option(
    "--image", "images", multiple=True, metavar="NAME=DIGEST", help="Check that this image exists; repeatable."
)
@allow_option
@click.option("--rules", "only_rules", is_flag=True, help="Run only the template rules, without AWS calls.")
@click.option("--reachability", is_flag=True, help="Print only the allowed connections and their ports.")
def command(
    invocation: Invocation, images: tuple[str, ...], allowed: tuple[str, ...], only_rules: bool, reachability: bool
) -> None:
    """Run every check, or print the reachability matrix."""
    from alva.release import preflight
    from alva.release.risks import Kind
    from alva.release.verify import Result

    with invocation.progress:
        synth_step(invocation)
    if reachability:
        from alva.checks.assembly import Assembly

        _print_reachability(invocation, Assembly.read(invocation.assembly_folder))
        return
    found = findings(invocation)
    if only_rules:
        is_allowed = Kind.RULES.value in allowed
        verdicts = {rule: preflight.rule_verdict(rule, said, is_allowed=is_allowed) for rule, said in found.items()}
        results = [Result(name=f"rule {rule}", verdict=each[0], reason=each[1]) for rule, each in verdicts.items()]
    else:
        manifest = invocation.manifest
        given = {manifest.service(name).name: digest for name, digest in given_digests(images).items()}
        results = preflight.Preflight(
            aws=invocation.aws,
            manifest=manifest,
            digests={**running(invocation), **given},
            builder=choose_builder(invocation),
            findings=found,
            allowed=frozenset(map(Kind, allowed)),
        ).run()
    show_checks(invocation, results)
    preflight.require(results, invocation.environment)


def running(invocation: Invocation) -> dict[str, str]:
    """Return service -> running digest."""
    from alva.release.stack_state import running_digests
    from alva.release.stacks import Stacks

    digests: dict[str, str] = {}
    for stack in invocation.manifest.stacks_of("services"):
        observed = Stacks(invocation.aws).observe(stack.name, with_template=False)
        digests |= running_digests(invocation.manifest, observed)
    return digests


def _print_reachability(invocation: Invocation, assembly: Assembly) -> None:
    from alva.checks.reachability import node_names, reachability

    matrix = reachability(assembly)
    if invocation.as_json:
        invocation.print_json(
            [
                {"from": source, "to": destination, "ports": list(ports)}
                for (source, destination), ports in matrix.items()
            ]
        )
        return
    for line in table(node_names(assembly), matrix):
        invocation.print(line)


def table(names: Sequence[str], matrix: Mapping[tuple[str, str], Sequence[str]]) -> Iterable[str]:
    """Format the matrix: sources are rows, destinations are columns."""
    width = max(len(name) for name in names) + 2
    yield "".join(["from \\ to".ljust(width), *(name.ljust(width) for name in names)]).rstrip()
    for source in names:
        cells = (",".join(matrix.get((source, destination), ())) or "-" for destination in names)
        yield "".join([source.ljust(width), *(cell.ljust(width) for cell in cells)]).rstrip()
