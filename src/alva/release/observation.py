"""Reads the planner's two arguments from AWS: the wanted and the observed environment. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from alva.aws import Aws
from alva.errors import UsageError
from alva.release import drift, ledger
from alva.release.images import is_published
from alva.release.ledger import Ledger, Release
from alva.release.manifest import Manifest, Stack
from alva.release.plan import Observed, Wanted
from alva.release.request import Request
from alva.release.secrets import Secrets, State
from alva.release.stack_state import ObservedStack, running_digests
from alva.release.stacks import Stacks


def observe(aws: Aws, manifest: Manifest, request: Request) -> tuple[Wanted, Observed]:
    """Return the wanted and the observed environment. Changes nothing."""
    stacks = Stacks(aws)
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="observe") as pool:
        observing = {stack.name: pool.submit(stacks.observe, stack.name) for stack in manifest.stacks}
        release = pool.submit(Ledger(aws, manifest).latest)
        secrets = pool.submit(Secrets(aws, manifest).check)
        publishing = {
            name: pool.submit(is_published, aws, manifest.service(name).repository, digest)
            for name, digest in request.digests.items()
            if digest is not None
        }
        last = release.result()
        observed = Observed(
            stacks={name: future.result() for name, future in observing.items()},
            published=frozenset(name for name, future in publishing.items() if future.result()),
            migrated_digest=last.migrated_digest if last is not None else None,
            revision=last.revision if last is not None else None,
            step_seconds=last.step_seconds if last is not None else {},
            released=_released(aws, manifest, last),
            secrets_ready=all(s.state is State.SET for s in secrets.result() if s.secret.used_by),
        )
    observed = replace(observed, drift=drift.compare(aws, manifest, observed.stacks))
    running = running_images(manifest, observed.stacks)
    observed = replace(observed, is_unrecorded=is_unrecorded(running, observed.released, last))
    digests: dict[str, str | None] = {**running, **request.digests}
    if missing := [service.name for service in manifest.services if service.name not in digests]:
        raise UsageError(
            "cannot release some services alone: others have never run",
            evidence=[f"no running image is known for {', '.join(missing)}"],
            next_step="./alva deploy without --service",
        )
    # Running images are in their repositories.
    kept = frozenset(name for name in digests if name not in request.digests)
    wanted = Wanted(
        manifest=replace(manifest, tags=_deployed_tags(manifest, observed)) if request.keeps_templates else manifest,
        templates={stack.name: _template(stack, observed, request) for stack in manifest.stacks},
        digests=digests,
        is_forced=request.is_forced,
        revisions=request.revisions,
        keeps_schema=request.keeps_schema,
    )
    return wanted, replace(observed, published=observed.published | kept)


def _template(stack: Stack, observed: Observed, request: Request) -> Mapping[str, Any]:
    """Return the template to release: this checkout's, or for a rollback the deployed one."""
    deployed = observed.stacks.get(stack.name)
    if request.keeps_templates and deployed is not None and deployed.was_made:
        return deployed.template
    return stack.template()


def _deployed_tags(manifest: Manifest, observed: Observed) -> Mapping[str, str]:
    deployed = (observed.stacks.get(stack.name) for stack in manifest.stacks_of("services"))
    return next((stack.tags for stack in deployed if stack is not None and stack.was_made), manifest.tags)


def _released(aws: Aws, manifest: Manifest, last: Release | None) -> Mapping[str, str]:
    """Return the digests of the last release that succeeded."""
    if last is not None and last.outcome != ledger.SUCCEEDED:
        last = next((each for each in Ledger(aws, manifest).history() if each.outcome == ledger.SUCCEEDED), None)
    return last.digests if last is not None else {}


def is_unrecorded(running: Mapping[str, str], released: Mapping[str, str], last: Release | None) -> bool:
    """Whether the ledger has no successful release of what runs: then it must be recorded when it verifies.

    `released` are the digests of the last release that succeeded; `last` is the newest entry. An interrupted release
    counts even with the same images: CloudFormation may have finished its templates.
    """
    return bool(running) and (
        dict(running) != dict(released) or (last is not None and last.outcome == ledger.INTERRUPTED)
    )


def running_images(manifest: Manifest, stacks: Mapping[str, ObservedStack | None]) -> dict[str, str]:
    running: dict[str, str] = {}
    for stack in manifest.stacks_of("services"):
        running |= running_digests(manifest, stacks.get(stack.name))
    return running
