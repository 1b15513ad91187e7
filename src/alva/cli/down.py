"""`./alva down`: stops the local region; --wipe deletes its data."""

from __future__ import annotations

import click

from alva.cli.invocation import Invocation, only_local, verb
from alva.cli.progress import step


@verb(summary="Stop the local region. Its data stays; --wipe deletes it after a question.", asks=True)
@click.option("--wipe", is_flag=True, help="Delete the data too: database, secrets, releases, images.")
def command(invocation: Invocation, wipe: bool) -> None:
    """Stop the region, and print what is left."""
    from alva.region import daemon

    only_local(invocation, "down")
    config = invocation.region_config
    if wipe and config.state_folder.exists():
        invocation.confirm(f"Delete the database, secrets, releases and images in {config.home}?")
    with invocation.progress as progress, step(progress, "down", "stop the local region") as result:
        stopped = daemon.stop(config)
        if wipe:
            daemon.wipe(config)
            result.detail = "and its data is deleted"
        elif not stopped:
            result.outcome, result.detail = "unchanged", "it was not running"
    if invocation.as_json:
        invocation.print_json({"stopped": stopped, "wiped": wipe})
