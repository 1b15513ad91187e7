"""`./alva test`: the tests; arguments go to pytest as they are."""

from __future__ import annotations

import subprocess
import sys

import click

from alva.cli.invocation import ROOT

# Most tests wait for servers, not for a processor. A folder stays together: its tests share what they start.
SIDE_BY_SIDE = ("-n", "2", "--no-loadscope-reorder")


@click.command(
    help="Run the tests. Arguments go to pytest as they are, for example: ./alva test tests/unit -k plan",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Without a file or folder: all tests, two folders side by side."""
    is_selection = any((ROOT / argument.split("::")[0]).exists() for argument in arguments)
    spread = () if is_selection else SIDE_BY_SIDE
    return subprocess.run([sys.executable, "-m", "pytest", *spread, *arguments], cwd=ROOT, check=False).returncode
