"""`./alva unlock`: take the environment's lock from whoever holds it."""

from __future__ import annotations

import click

from alva.cli.invocation import Invocation, verb


@verb(summary="Take the environment's lock from whoever holds it; shows the holder and asks.", asks=True)
@click.option("--of-this-run", is_flag=True, help="Only a lock that this run of GitHub Actions holds; does not ask.")
def command(invocation: Invocation, of_this_run: bool) -> None:
    """Ask, then delete the lock that was shown."""
    from alva.release.lock import Lock, current_run
    from alva.release.recording import record_killed

    lock = Lock(invocation.aws, invocation.manifest)
    holder = lock.holder()
    if of_this_run:
        holder = lock.release_of_run(current_run())
        said = f"taken from {holder}" if holder is not None else "this run holds no lock"
        if holder is not None:
            record_killed(invocation.aws, invocation.manifest, holder, lambda text: click.echo(text, err=True))
    elif holder is None:
        said = f"nobody holds {invocation.environment}"
    else:
        invocation.confirm(f"{invocation.environment} is held by {holder}. A release may be at work. Unlock?")
        taken = lock.release_by_force(holder)
        said = f"taken from {taken}" if taken is not None else "it was let go meanwhile"
    if invocation.as_json:
        invocation.print_json({"taken_from": str(holder) if holder is not None else None})
    else:
        invocation.print(said)
