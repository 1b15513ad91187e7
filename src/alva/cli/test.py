"""`./alva test`: the tests; arguments go to pytest as they are."""

from __future__ import annotations

import subprocess
import sys

import click

from alva.cli.invocation import ROOT


@click.command(
    help="Run the tests. Arguments go to pytest as they are, for example: ./alva test tests/unit -k plan",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> int:
    """Without arguments: all tests, in the order of the folders."""
    return subprocess.run([sys.executable, "-m", "pytest", *arguments], cwd=ROOT, check=False).returncode
