"""`./alva down`: stop the local region, and with --wipe forget its data."""

from __future__ import annotations

import click

from alva.cli.invocation import Invocation, only_local, verb
from alva.cli.progress import step


@verb(summary="Stop the local region. Its data stay, unless --wipe says otherwise: that asks.", asks=True)
@click.option("--wipe", is_flag=True, help="Forget the data too: database, secrets, releases, images.")
def command(invocation: Invocation, wipe: bool) -> None:
    """Stop, and say what is left."""
    from alva.region import daemon

    only_local(invocation, "down")
    config = invocation.region_config
    if wipe and config.state_folder.exists():
        invocation.confirm(f"Forget the database, secrets, releases and images in {config.home}?")
    with invocation.progress as progress, step(progress, "down", "stop the local region") as result:
        stopped = daemon.stop(config)
        if wipe:
            daemon.wipe(config)
            result.detail = "and its data forgotten"
        elif not stopped:
            result.outcome, result.detail = "unchanged", "it did not run"
    if invocation.as_json:
        invocation.print_json({"stopped": stopped, "wiped": wipe})
