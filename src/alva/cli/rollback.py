"""`./alva rollback`: releases the images of an earlier release again."""

from __future__ import annotations

import time

import click

from alva.cli.deploy import (
    Builds,
    allow_option,
    asker,
    current_commit,
    deadline_option,
    show_plan,
    show_result,
    wait_option,
)
from alva.cli.invocation import Invocation, verb
from alva.cli.progress import step
from alva.cli.synth import synthesise


@verb(
    summary="Release the images of an earlier release again: the previous one, or the NUMBER that ./alva releases "
    "shows. Only image digests change: the schema and the deployed templates stay as they are. A release that no "
    "longer fits the schema is refused.",
    asks=True,
)
@click.option("--dry-run", is_flag=True, help="Show the plan without changing anything.")
@allow_option
@wait_option
@deadline_option
@click.argument("number", type=int, required=False)
def command(
    invocation: Invocation,
    number: int | None,
    dry_run: bool,
    allowed: tuple[str, ...],
    wait_seconds: float,
    deadline_seconds: float,
) -> None:
    """Find the release, ask, and release its digests with the deployed templates."""
    from alva.release import deploy as release
    from alva.release import rollback
    from alva.release.request import Request
    from alva.release.risks import Kind

    started = time.monotonic()
    with invocation.progress as progress:
        with step(progress, "synth", f"synthesise {invocation.environment}") as synthesis:
            if not synthesise(invocation.environment, invocation.assembly_folder):
                synthesis.outcome = "unchanged"
        aws, manifest = invocation.aws, invocation.manifest
        chosen = rollback.find(aws, manifest, number)
        names = {service.name for service in manifest.services}
        if not dry_run:
            with progress.paused():
                invocation.confirm(
                    f"Roll back to release {chosen.number} (commit {chosen.commit}, {chosen.started_at}) in "
                    f"{manifest.environment}?"
                )
        request = Request(
            # A service that is newer than that release keeps its image.
            digests={name: digest for name, digest in chosen.digests.items() if name in names},
            commit=chosen.commit,
            keeps_schema=True,
            rollback_of=chosen.number,
            keeps_templates=True,
            allowed=frozenset(map(Kind, allowed)),
            lock_wait_seconds=wait_seconds,
            deadline_seconds=deadline_seconds,
            ask=asker(invocation),
        )
        if dry_run:
            plan, diff = release.plan_only(aws, manifest, request)
        else:
            progress.note(f"rolling back to release {chosen.number}, with the tool of commit {current_commit()}")
            result = release.deploy(aws, manifest, request, Builds(invocation, progress).builder, progress)
    if dry_run:
        show_plan(invocation, plan, diff)
    else:
        show_result(invocation, result, seconds=time.monotonic() - started)
