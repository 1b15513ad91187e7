"""`./alva wake`: starts what `./alva sleep` stopped, and verifies it."""

from __future__ import annotations

import time

from alva.cli.invocation import Invocation, verb
from alva.cli.progress import step
from alva.cli.synth import synth_step

PATIENCE_SECONDS = 90
"""New tasks need time to resolve each other's names before every check passes."""


@verb(summary="Start the database and the tasks that ./alva sleep stopped, and verify them.")
def command(invocation: Invocation) -> None:
    """Start the environment, and verify it."""
    from alva.release import verify
    from alva.release.dependency_checks import verify_with_dependencies
    from alva.release.hibernation import Hibernation
    from alva.release.lock import Lock

    started = time.monotonic()
    with invocation.progress:
        synth_step(invocation)
    aws, manifest = invocation.aws, invocation.manifest
    with invocation.progress as progress, Lock(aws, manifest).held("wake", progress.note):
        with step(progress, "wake", f"wake {manifest.environment}"):
            asleep = Hibernation(aws, manifest).wake(lambda text: progress.step_line("wake", text))
        with step(progress, "verify", "verify") as result:
            checks = verify_with_dependencies(aws, manifest, None, PATIENCE_SECONDS)
            verify.require(checks)
            result.detail = f"{len(checks)} checks"
    seconds = time.monotonic() - started
    if invocation.as_json:
        invocation.print_json({"services": dict(asleep.services), "seconds": round(seconds, 2)})
        return
    invocation.print(f"{manifest.environment} is awake after {seconds:.0f} s; it was asleep since {asleep.since}")
