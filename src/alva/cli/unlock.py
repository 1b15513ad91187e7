"""`./alva unlock`: frees the environment's lock, whoever holds it."""

from __future__ import annotations

import click

from alva.cli.invocation import Invocation, verb


@verb(summary="Free the environment's lock. Shows its holder and asks.", asks=True)
@click.option("--of-this-run", is_flag=True, help="Free it only if this GitHub Actions run holds it; does not ask.")
def command(invocation: Invocation, of_this_run: bool) -> None:
    """Ask, then free the lock that was shown."""
    from alva.release.lock import Lock, current_run
    from alva.release.recording import record_killed

    lock = Lock(invocation.aws, invocation.manifest)
    holder = lock.holder()
    if of_this_run:
        holder = lock.free_of_run(current_run())
        said = f"freed the lock of {holder}" if holder is not None else "this run does not hold the lock"
        if holder is not None:
            record_killed(invocation.aws, invocation.manifest, holder, lambda text: click.echo(text, err=True))
    elif holder is None:
        said = f"{invocation.environment} is not locked"
    else:
        invocation.confirm(f"{invocation.environment} is locked by {holder}. A release may be running. Free the lock?")
        taken = lock.free_by_force(holder)
        said = f"freed the lock of {taken}" if taken is not None else "the holder has freed it meanwhile"
    if invocation.as_json:
        invocation.print_json({"taken_from": str(holder) if holder is not None else None})
    else:
        invocation.print(said)
