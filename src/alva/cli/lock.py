"""`./alva lock`: who holds the environment, or hold it yourself while you work on it by hand."""

from __future__ import annotations

from dataclasses import asdict

import click

from alva.cli.invocation import Invocation, verb


@verb(
    summary="Show who holds the environment and since when. With a REASON, hold it: releases are refused until "
    "./alva unlock."
)
@click.argument("reason", nargs=-1)
def command(invocation: Invocation, reason: tuple[str, ...]) -> None:
    """Print the holder, or become it."""
    from alva.release.lock import Lock

    lock = Lock(invocation.aws, invocation.manifest)
    if reason:
        lock.take(" ".join(reason))
    holder = lock.holder()
    if invocation.as_json:
        invocation.print_json(asdict(holder) if holder is not None else None)
    elif holder is None:
        invocation.print(f"nobody holds {invocation.environment}")
    else:
        gone = " (that process is gone: the next release takes it over)" if holder.is_gone() else ""
        invocation.print(f"{invocation.environment} is held by {holder}{gone}")
