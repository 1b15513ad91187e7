"""`./alva check`: the fast checks that CI runs first."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import click

from alva.cli.invocation import ROOT, Invocation, verb
from alva.cli.progress import step
from alva.errors import AlvaError

PYTHON = sys.executable
TIMEOUT_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Check:
    """A program that must exit with 0."""

    name: str
    argv: tuple[str, ...]


CHECKS = (
    Check(name="lint", argv=(PYTHON, "-m", "ruff", "check", ".")),
    Check(name="format", argv=(PYTHON, "-m", "ruff", "format", "--check", ".")),
    Check(name="types", argv=(PYTHON, "-m", "mypy", "src/alva", "apps", "infrastructure", "benchmarks")),
    Check(name="fast tests", argv=(PYTHON, "-m", "pytest", "-q", "tests/unit", "tests/release")),
    # Synthesises every environment and setting, and runs the scanners: cfn-lint, cdk-nag, checkov.
    Check(name="templates", argv=(PYTHON, "-m", "pytest", "-q", "tests/infrastructure")),
)
"""The fast tests include the architecture test (allowed imports): tests/unit/test_architecture.py."""


@verb(summary="Run the checks that CI runs first: lint, format, types, architecture and fast tests.", targets=False)
@click.argument("names", nargs=-1, type=click.Choice([check.name for check in CHECKS]))
def command(invocation: Invocation, names: tuple[str, ...]) -> None:
    """Run the named checks, or all; show the output of those that fail."""
    chosen = [check for check in CHECKS if not names or check.name in names]
    failed: list[tuple[Check, str]] = []
    with invocation.progress as progress, ThreadPoolExecutor(max_workers=2) as pool:

        def run(check: Check) -> None:
            with step(progress, check.name, check.name) as result:
                ended = subprocess.run(
                    check.argv,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=TIMEOUT_SECONDS,
                    check=False,
                )
                if ended.returncode != 0:
                    failed.append((check, ended.stdout))
                    result.outcome = "failed"

        for future in [pool.submit(run, check) for check in chosen]:
            future.result()
    for check, output in failed:
        click.echo(f"\n--- {check.name}\n{output.rstrip()}", err=True)
    if invocation.as_json:
        invocation.print_json({c.name: c not in [f for f, _ in failed] for c in chosen})
    if failed:
        raise AlvaError(f"cannot pass {', '.join(check.name for check, _ in failed)}", next_step="see the output above")
