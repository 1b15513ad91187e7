"""Records a release in the ledger, and protects its images from expiry if it succeeded."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from alva.aws import Aws
from alva.errors import AlvaError
from alva.release import automatic_rollback
from alva.release.diagnosis import Diagnosis
from alva.release.executor import Executor
from alva.release.images import mark_released
from alva.release.ledger import INTERRUPTED, Ledger, Release
from alva.release.lock import Holder
from alva.release.manifest import Manifest, Service
from alva.release.observation import running_images
from alva.release.plan import Migrate, Observed, Plan, Wanted
from alva.release.reporting import Reporter

RELEASING = "release of "
"""The prefix of the lock's description during a release; the commit follows."""


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """The state of the schema after a release."""

    digest: str | None
    revision: str | None
    contractions: tuple[str, ...] = ()


def migrated(plan: Plan, executor: Executor, observed: Observed, wanted: Wanted) -> Migrated:
    """Return the state of the schema after the executor's steps."""
    done = next((s for s in plan.steps if isinstance(s, Migrate) and s.key in executor.done), None)
    if done is None:
        revision = observed.revision
        if wanted.revisions and observed.revision is None and observed.migrated_digest is not None:
            # An older release did not record its revision; no migration was needed, so it is this image's.
            revision = wanted.revisions[-1].revision
        return Migrated(digest=observed.migrated_digest, revision=revision)
    revisions = wanted.revisions
    return Migrated(
        digest=executor.digests.get(wanted.manifest.migration.service),
        revision=revisions[-1].revision if revisions else observed.revision,
        contractions=tuple(r.revision for r in done.revisions if r.contractions and observed.revision is not None),
    )


def record_success(aws: Aws, manifest: Manifest, release: Release) -> Release:
    """Record a successful release and return it with its number. The AlvaError says that it runs anyway."""
    try:
        return replace(release, number=Ledger(aws, manifest).record(release))
    except AlvaError as error:
        raise AlvaError(
            "cannot record the release: it runs and its checks passed, but it is not in the ledger",
            evidence=[error.message, *error.evidence],
            next_step="run the same command again: it records what runs",
        ) from error


def record_failure(aws: Aws, manifest: Manifest, release: Release, reporter: Reporter) -> int | None:
    """Record a failed release; an error here must not hide why the release failed."""
    return _try_to_record(Ledger(aws, manifest), release, reporter.note)


def record_killed(aws: Aws, manifest: Manifest, gone: Holder, note: Callable[[str], None]) -> None:
    """Record a release whose process was killed, from the lock that it left. Other holders leave no entry."""
    if not gone.what.startswith(RELEASING):
        return
    written = Ledger(aws, manifest)
    last = written.latest()
    release = Release(
        commit=gone.what.removeprefix(RELEASING),
        digests={},
        migrated_digest=last.migrated_digest if last is not None else None,
        revision=last.revision if last is not None else None,
        by=gone.user,
        started_at=gone.since,
        seconds=0,
        outcome=INTERRUPTED,
        cause="its process was killed before it recorded the result",
    )
    number = _try_to_record(written, release, note)
    if number is not None:
        note(f"recorded as release {number}, interrupted: {gone}")


def _try_to_record(written: Ledger, release: Release, note: Callable[[str], None]) -> int | None:
    try:
        return written.record(release)
    except AlvaError as error:
        note(f"cannot write the ledger: {'; '.join((error.message, *error.evidence))}")
        return None


def keep_causes(
    aws: Aws,
    manifest: Manifest,
    number: int,
    failure: AlvaError,
    causes: tuple[Diagnosis, ...],
    reporter: Reporter,
) -> None:
    """Store the causes under the release's number; an error is noted, not raised."""
    try:
        automatic_rollback.keep(aws, manifest, number, failure, causes)
    except AlvaError as error:
        reporter.note(f"cannot store its causes: {'; '.join((error.message, *error.evidence))}")


def run_address() -> str:
    """Return the URL of this process's pipeline run; empty outside of a pipeline.

    https://docs.github.com/actions/reference/workflows-and-actions/variables
    """
    server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    run = os.environ.get("GITHUB_RUN_ID")
    if not (server and repository and run):
        return ""
    return f"{server}/{repository}/actions/runs/{run}/attempts/{os.environ.get('GITHUB_RUN_ATTEMPT', '1')}"


def protect_from_expiry(aws: Aws, wanted: Wanted, observed: Observed, release: Release, reporter: Reporter) -> None:
    """Tag the running images so that later builds do not expire them; an error here does not fail the release."""
    manifest = wanted.manifest
    before = running_images(manifest, observed.stacks)

    def mark(service: Service) -> None:
        digest = release.digests[service.name]
        is_new = before.get(service.name) != digest
        try:
            mark_released(aws, service.repository, digest, release.number, is_new=is_new)
        except AlvaError as error:
            reporter.note(f"not protected from expiry: {'; '.join((error.message, *error.evidence))}")

    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="mark") as pool:
        list(pool.map(mark, manifest.services))
