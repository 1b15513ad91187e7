"""`./alva verify`: named checks against what runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from alva.cli.invocation import Invocation, verb

if TYPE_CHECKING:
    from alva.release.verify import Result

COLOURS = {"OK": "green", "SKIP": "yellow", "WARN": "yellow", "FAIL": "red"}


@verb(summary="Check what runs, from outside, as users reach it. Ends with 7 when a check fails.")
def command(invocation: Invocation) -> None:
    """Print every check with its verdict and reason."""
    from alva.release import verify

    results = verify.Verification(invocation.aws, invocation.manifest).run()
    show_checks(invocation, results)
    verify.require(results)


def show_checks(invocation: Invocation, results: Sequence[Result]) -> None:
    """Every check with its verdict and reason."""
    if invocation.as_json:
        invocation.print_json([result.as_json() for result in results])
    else:
        width = max(len(result.name) for result in results)
        for result in results:
            verdict = click.style(f"{result.verdict.value:<4}", fg=COLOURS[result.verdict.value])
            invocation.print(f"{verdict}  {result.name:<{width}}  {result.reason}")
