"""`./alva unlock`: take the environment's lock from whoever holds it."""

from __future__ import annotations

from alva.cli.invocation import Invocation, verb


@verb(summary="Take the environment's lock from whoever holds it; shows the holder and asks.", asks=True)
def command(invocation: Invocation) -> None:
    """Ask, then delete the lock that was shown."""
    from alva.release.lock import Lock

    lock = Lock(invocation.aws, invocation.manifest)
    holder = lock.holder()
    if holder is None:
        said = f"nobody holds {invocation.environment}"
    else:
        invocation.confirm(f"{invocation.environment} is held by {holder}. A release may be at work. Unlock?")
        taken = lock.release_by_force(holder)
        said = f"taken from {taken}" if taken is not None else "it was let go meanwhile"
    if invocation.as_json:
        invocation.print_json({"taken_from": str(holder) if holder is not None else None})
    else:
        invocation.print(said)
