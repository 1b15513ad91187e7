"""`./alva migrate`: runs only the migration, with the deployed image."""

from __future__ import annotations

from alva.cli.invocation import Invocation, verb
from alva.cli.progress import step


@verb(summary="Run only the migration, with the deployed image, and show its log.")
def command(invocation: Invocation) -> None:
    """Run the migration under the environment's lock."""
    from alva.release import migration
    from alva.release.lock import Lock
    from alva.release.refusals import refuse_asleep

    aws, manifest = invocation.aws, invocation.manifest
    refuse_asleep(aws, manifest)
    with (
        invocation.progress as progress,
        Lock(aws, manifest).held("migration", progress.note),
        step(progress, "migration", "migrate the database"),
    ):
        migration.run(aws, manifest, lambda text: progress.step_line("migration", text), started_by="alva-migrate")
