"""`./alva preflight`: what can be known to fail before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from alva.cli.invocation import ROOT, Invocation, verb
from alva.cli.progress import step
from alva.cli.synth import synthesise

if TYPE_CHECKING:
    from alva.checks.assembly import Assembly


@verb(summary="Check the templates for what is known to fail. Ends with 3 when something is.")
@click.option("--reachability", is_flag=True, help="Print who can reach whom on which port, instead.")
def command(invocation: Invocation, reachability: bool) -> None:
    """Ask every template rule, or print the reachability matrix; nothing is asked of AWS."""
    from alva.checks.assembly import Assembly
    from alva.checks.template_rules import check, require

    with invocation.progress as progress, step(progress, "synth", f"synthesise {invocation.environment}"):
        synthesise(invocation.environment, invocation.assembly_folder)
    assembly = Assembly.read(invocation.assembly_folder)
    if reachability:
        _print_reachability(invocation, assembly)
        return
    found = check(assembly, ROOT)
    if invocation.as_json:
        invocation.print_json(
            [
                {"check": name, "findings": [{"subject": each.subject, "message": each.message} for each in findings]}
                for name, findings in found.items()
            ]
        )
    else:
        for name, findings in found.items():
            verdict = click.style("FAIL", fg="red") if findings else click.style("OK  ", fg="green")
            invocation.print(f"{verdict}  {name}")
            for finding in findings:
                invocation.print(f"      {finding.subject}: {finding.message}")
    require(invocation.assembly_folder, ROOT)


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
    """The matrix as lines: who reaches (rows) whom (columns)."""
    width = max(len(name) for name in names) + 2
    yield "".join(["from \\ to".ljust(width), *(name.ljust(width) for name in names)]).rstrip()
    for source in names:
        cells = (",".join(matrix.get((source, destination), ())) or "-" for destination in names)
        yield "".join([source.ljust(width), *(cell.ljust(width) for cell in cells)]).rstrip()
