"""`./alva draw`: the architecture as SVG, computed from the templates."""

from __future__ import annotations

import json
from pathlib import Path

import click

from alva.cli.invocation import Invocation, verb
from alva.cli.synth import synth_step


@verb(
    summary="Write the architecture of this checkout's templates as SVG: parts and allowed connections.\n\n"
    "With --changes, parts that a release would add are green, parts that it would remove are red and parts that it "
    "would change are amber. It also prints the differences as text: on standard output with --output, else on "
    "standard error."
)
@click.option("--changes", is_flag=True, help="Compare with what is deployed.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.  [default: standard output]"
)
def command(invocation: Invocation, changes: bool, output: Path | None) -> None:
    """Synthesise the templates and draw them."""
    from alva.checks.assembly import Assembly
    from alva.console import drawing, picture
    from alva.console.session import deployed_assembly

    folder = invocation.assembly_folder
    with invocation.progress:
        synth_step(invocation)
    assembly = Assembly.read(folder)
    wanted = picture.read_picture(assembly)
    comparison = deployed = None
    if changes:
        deployed = picture.read_picture(deployed_assembly(invocation.aws, invocation.manifest, assembly.manifest))
        comparison = picture.compare(deployed, wanted)
    svg = drawing.draw(wanted, comparison, other=deployed)
    if output is not None:
        output.write_text(svg)
    if invocation.as_json:
        lines = list(comparison.lines) if comparison is not None else []
        click.echo(json.dumps({"svg": svg if output is None else str(output), "changes": lines}))
        return
    if output is None:
        click.echo(svg, nl=False)
    if comparison is not None:
        for line in comparison.lines or ("the architecture does not change",):
            click.echo(line, err=output is None)
