"""`./alva releases`: prints the ledger."""

from __future__ import annotations

from dataclasses import asdict

import click

from alva.cli.invocation import Invocation, verb


@verb(summary="List the releases of this environment, newest first: time, commit, user, outcome, digests.")
@click.option("--last", default=20, show_default=True, help="The number of releases.")
def command(invocation: Invocation, last: int) -> None:
    """Print the releases."""
    from alva.release.ledger import Ledger

    history = Ledger(invocation.aws, invocation.manifest).history()[:last]
    if invocation.as_json:
        invocation.print_json([asdict(release) for release in history])
        return
    for release in history:
        digests = " ".join(f"{name}={digest[7:15]}" for name, digest in release.digests.items())
        invocation.print(
            f"{release.number:>4}  {release.started_at}  {release.commit:<13}  {release.seconds:>6.1f}s  "
            f"{release.outcome:<11}  {release.by:<10}  {digests}"
        )
        if release.rollback_of is not None:
            invocation.print(f"      rollback to release {release.rollback_of}")
        if release.contractions:
            taken = ", ".join(release.contractions)
            invocation.print(f"      migration {taken} removed something: no earlier release can be restored")
        if release.cause:
            invocation.print(f"      {release.cause}")
    if not history:
        invocation.print("no release yet")
