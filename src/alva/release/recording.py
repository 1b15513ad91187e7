"""Writes a release down, good or bad, and protects the images of a good one from expiry."""

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
from alva.release.observation import what_runs
from alva.release.plan import Migrate, Observed, Plan, Wanted
from alva.release.reporting import Reporter

RELEASING = "release of "
"""What the lock's holder does while it releases; the commit is behind it."""


@dataclass(frozen=True, kw_only=True)
class Migrated:
    """Where the schema is after a release."""

    digest: str | None
    revision: str | None
    contractions: tuple[str, ...] = ()


def migrated(plan: Plan, executor: Executor, observed: Observed, wanted: Wanted) -> Migrated:
    """Where the schema is, after the steps that the executor has done."""
    done = next((s for s in plan.steps if isinstance(s, Migrate) and s.key in executor.done), None)
    if done is None:
        revision = observed.revision
        if wanted.revisions and observed.revision is None and observed.migrated_digest is not None:
            # Migrated before revisions were written down: by this very image, as far as nothing had to be done.
            revision = wanted.revisions[-1].revision
        return Migrated(digest=observed.migrated_digest, revision=revision)
    revisions = wanted.revisions
    return Migrated(
        digest=executor.digests.get(wanted.manifest.migration.service),
        revision=revisions[-1].revision if revisions else observed.revision,
        contractions=tuple(r.revision for r in done.revisions if r.contractions and observed.revision is not None),
    )


def record_success(aws: Aws, manifest: Manifest, release: Release) -> Release:
    """Write a good release down, with its number. Raises AlvaError that says that it runs all the same."""
    try:
        return replace(release, number=Ledger(aws, manifest).record(release))
    except AlvaError as error:
        raise AlvaError(
            "cannot record the release: it runs and has verified, and the ledger does not have it",
            evidence=[error.message, *error.evidence],
            next_step="the same command again records what runs",
        ) from error


def record_failure(aws: Aws, manifest: Manifest, release: Release, reporter: Reporter) -> int | None:
    """Write a failed release down; that this fails too must not hide why the release failed."""
    return _try_to_record(Ledger(aws, manifest), release, reporter.note)


def record_killed(aws: Aws, manifest: Manifest, gone: Holder, note: Callable[[str], None]) -> None:
    """Write a release down whose process could not do so itself, from the lock that it left. Others leave no entry."""
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
        cause="its process was killed before it could record what became of it",
    )
    number = _try_to_record(written, release, note)
    if number is not None:
        note(f"recorded as release {number}, interrupted: {gone}")


def _try_to_record(written: Ledger, release: Release, note: Callable[[str], None]) -> int | None:
    try:
        return written.record(release)
    except AlvaError as error:
        note(f"the ledger could not be written: {'; '.join((error.message, *error.evidence))}")
        return None


def keep_causes(
    aws: Aws,
    manifest: Manifest,
    number: int,
    failure: AlvaError,
    causes: tuple[Diagnosis, ...],
    reporter: Reporter,
) -> None:
    """Write the causes down under the release's number, or note that this failed."""
    try:
        automatic_rollback.keep(aws, manifest, number, failure, causes)
    except AlvaError as error:
        reporter.note(f"its causes could not be kept: {'; '.join((error.message, *error.evidence))}")


def run_address() -> str:
    """Where the run of the pipeline can be seen that this process belongs to; empty outside of one.

    https://docs.github.com/actions/reference/workflows-and-actions/variables
    """
    server, repository = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    run = os.environ.get("GITHUB_RUN_ID")
    if not (server and repository and run):
        return ""
    return f"{server}/{repository}/actions/runs/{run}/attempts/{os.environ.get('GITHUB_RUN_ATTEMPT', '1')}"


def protect_from_expiry(aws: Aws, wanted: Wanted, observed: Observed, release: Release, reporter: Reporter) -> None:
    """Tag what runs now, so that no number of later builds expires it; the release is good even where that fails."""
    manifest = wanted.manifest
    before = what_runs(manifest, observed.stacks)

    def mark(service: Service) -> None:
        digest = release.digests[service.name]
        is_new = before.get(service.name) != digest
        try:
            mark_released(aws, service.repository, digest, release.number, is_new=is_new)
        except AlvaError as error:
            reporter.note(f"not protected from expiry: {'; '.join((error.message, *error.evidence))}")

    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="mark") as pool:
        list(pool.map(mark, manifest.services))
