"""`./alva test`: runs the tests; arguments are passed to pytest."""

from __future__ import annotations

import subprocess
import sys

import click

from alva.cli.invocation import ROOT

# Most tests wait for servers, not for the CPU. A folder's tests share servers, so one worker runs them.
SIDE_BY_SIDE = ("-n", "4", "--no-loadscope-reorder")


@click.command(
    help="Run the tests. Arguments are passed to pytest, for example: ./alva test tests/unit -k plan",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Run all tests, two folders in parallel, if no file or folder is given."""
    is_selection = any((ROOT / argument.split("::")[0]).exists() for argument in arguments)
    spread = () if is_selection else SIDE_BY_SIDE
    return subprocess.run([sys.executable, "-m", "pytest", *spread, *arguments], cwd=ROOT, check=False).returncode
