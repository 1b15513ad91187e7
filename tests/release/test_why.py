"""The causes of a failed release are stored, and found by the release's number."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from alva.aws import Aws
from alva.errors import AlvaError, MigrationFailed, RolledBack, StackFailed, VerificationFailed
from alva.release.diagnosis import Diagnosis
from alva.release.manifest import Manifest
from alva.release.why import FailedRelease, FailedReleases, causes_of, most_telling


def account(release: int, lines: int = 2) -> FailedRelease:
    cause = Diagnosis(
        subject="api",
        kind="crash",
        cause=f"it crashed in release {release}",
        evidence=tuple(f"{i} {'x' * 390}" for i in range(lines)),
        next_step="./alva logs api",
    )
    return FailedRelease(release=release, message="cannot release", exit_code=5, causes=(cause,))


def test_causes_are_found_by_release_or_for_the_last_one(aws: Aws, manifest: Manifest) -> None:
    accounts = FailedReleases(aws, manifest)
    assert accounts.find() is None
    assert accounts.find(3) is None
    accounts.keep(account(3))
    accounts.keep(account(5))
    assert accounts.find(3) == account(3)
    assert accounts.find() == account(5)
    assert accounts.find(4) is None


def test_long_causes_are_stored_with_less_evidence(aws: Aws, manifest: Manifest) -> None:
    accounts = FailedReleases(aws, manifest)
    accounts.keep(account(1, lines=40))
    found = accounts.find()
    assert found is not None
    assert found.causes[0].cause == "it crashed in release 1"
    assert 0 < len(found.causes[0].evidence) < 40


def test_failed_task_is_preferred_to_tasks_stopped_with_their_host() -> None:
    def stopped(reason: str) -> Any:
        return {"stoppedReason": reason}

    gone, crashed = stopped("Your Spot Task was interrupted."), stopped("Essential container in task exited")
    assert most_telling([gone, crashed, gone]) is crashed
    assert most_telling([gone, gone]) is gone


def test_without_failed_tasks_the_failure_itself_is_read(aws: Aws, manifest: Manifest) -> None:
    refused = "last log: cannot migrate: canceling statement due to lock timeout"
    failure = MigrationFailed("cannot migrate: it failed", evidence=[refused])
    (cause,) = causes_of(aws, manifest, failure, since=datetime.now(UTC))
    assert (cause.subject, cause.kind) == ("migration", "lock-timeout")


def test_killed_migration_is_distinguished_from_a_failed_one_by_its_exit_code(aws: Aws, manifest: Manifest) -> None:
    kinds = {}
    for code in (137, 3):
        evidence = [f"container migrations ended with exit code {code}", "ECS: Essential container in task exited"]
        failure = MigrationFailed("cannot migrate: the migration failed; no service was touched", evidence=evidence)
        (cause,) = causes_of(aws, manifest, failure, since=datetime.now(UTC))
        assert cause.evidence.count(evidence[0]) == 1
        kinds[code] = cause.kind
    assert kinds == {137: "killed", 3: "crash"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (
            MigrationFailed("m", evidence=["container m never ran: CannotPullContainerError: x: not found"]),
            "unknown-image",
        ),
        (StackFailed("s", evidence=["Group (AWS::Logs::LogGroup): x already exists"]), "name-taken"),
        (RolledBack("r", evidence=["Group (AWS::Logs::LogGroup): x already exists"]), "unknown"),
        (RolledBack("r", evidence=["CannotPullContainerError: x: not found"]), "unknown-image"),
        (VerificationFailed("v", evidence=["web answers /: HTTP 503"]), "no-target"),
        (VerificationFailed("v", evidence=["web: last log: web answers /: HTTP 503"]), "unknown"),
        (AlvaError("cannot run: x already exists", evidence=["CannotPullContainerError: x: not found"]), "unknown"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_evidence_of_an_error_has_the_origin_of_the_quoted_source(
    aws: Aws, manifest: Manifest, error: AlvaError, kind: str
) -> None:
    (cause,) = causes_of(aws, manifest, error, since=datetime.now(UTC))
    assert cause.kind == kind


def test_error_raised_from_another_has_that_ones_origin(aws: Aws, manifest: Manifest) -> None:
    refused = StackFailed("cannot update stack s", evidence=["Group (AWS::Logs::LogGroup): x already exists"])
    error = RolledBack("cannot release", evidence=refused.evidence)
    error.__cause__ = refused
    (cause,) = causes_of(aws, manifest, error, since=datetime.now(UTC))
    assert cause.kind == "name-taken"
