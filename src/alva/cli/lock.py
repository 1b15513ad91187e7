"""`./alva lock`: shows the holder of the environment's lock, or takes the lock by hand."""

from __future__ import annotations

from dataclasses import asdict

import click

from alva.cli.invocation import Invocation, verb


@verb(
    summary="Show who holds the environment's lock. With a REASON, take the lock: releases are refused until "
    "./alva unlock."
)
@click.argument("reason", nargs=-1)
def command(invocation: Invocation, reason: tuple[str, ...]) -> None:
    """Print the holder, or take the lock."""
    from alva.release.lock import Lock

    lock = Lock(invocation.aws, invocation.manifest)
    if reason:
        lock.take(" ".join(reason))
    holder = lock.holder()
    if invocation.as_json:
        invocation.print_json(asdict(holder) if holder is not None else None)
    elif holder is None:
        invocation.print(f"{invocation.environment} is not locked")
    else:
        gone = " (its process has ended: the next release takes the lock over)" if holder.is_gone() else ""
        invocation.print(f"{invocation.environment} is locked by {holder}{gone}")
