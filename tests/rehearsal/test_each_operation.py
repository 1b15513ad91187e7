"""Each AWS operation of a release fails once: the environment stays intact, and exit code and ledger are right.

The operations are recorded from a release with a new image and a migration. Then, for each operation, a release runs in
which its first call fails: throttled beyond all retries, denied, disconnected, or with an expired token, in turn.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectionClosedError

from alva.aws import Aws, Poll, Target
from alva.cli.bundle_builder import BundleBuilder
from alva.errors import AlvaError
from alva.release.deploy import deploy
from alva.release.ledger import FAILED, ROLLED_BACK, SUCCEEDED, Ledger
from alva.release.lock import Lock
from alva.release.manifest import Manifest
from alva.release.reporting import Reporter
from alva.release.request import Request
from alva.release.risks import Kind

from .environment import Rehearsal

pytestmark = pytest.mark.nightly

Operation = tuple[str, str]
ERRORS = {
    "throttled": ("ThrottlingException", "Rate exceeded"),
    "denied": ("AccessDeniedException", "is not authorized to perform this"),
    "expired": ("ExpiredTokenException", "The security token included in the request is expired"),
}
KINDS = (*ERRORS, "dropped")
NOT_NEEDED = {("logs", "GetLogEvents"), ("ecr", "PutImage")}
"""Operations whose failure does not fail a release: those for a task's output and for tags of released images."""


class Silent(Reporter):
    """Reports nothing."""


@dataclass
class Fault:
    """Makes the first call of one operation fail, and records every operation that is called."""

    operation: Operation | None = None
    kind: str = ""
    called: dict[Operation, int] = field(default_factory=dict)
    has_struck: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def before_call(self, model: Any, **_: Any) -> Any:
        """Botocore's event before a request is sent; a returned response replaces the real one."""
        operation = (model.service_model.service_name, model.name)
        with self._lock:
            self.called[operation] = self.called.get(operation, 0) + 1
            if operation != self.operation or self.has_struck:
                return None
            self.has_struck = True
        if self.kind == "dropped":
            raise ConnectionClosedError(endpoint_url="http://aws.example")
        code, message = ERRORS[self.kind]
        parsed = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        return AWSResponse("http://aws.example", 400, HTTPHeaders(), None), parsed


class FaultyAws(Aws):
    """AWS with the fault, also for assumed roles."""

    def __init__(self, fault: Fault, target: Target, poll: Poll | None = None, **options: Any) -> None:
        super().__init__(target, poll, **options)
        self.fault = fault
        self._hooked: set[str] = set()

    def client(self, service: str) -> Any:
        client = super().client(service)
        if service not in self._hooked:
            self._hooked.add(service)
            client.meta.events.register("before-call", self.fault.before_call)
        return client

    def assuming(self, role_arn: str, session_name: str) -> Aws:
        plain = super().assuming(role_arn, session_name)
        return FaultyAws(self.fault, plain.target, plain.poll, role=plain._role)


def test_release_with_any_failed_operation_leaves_the_environment_intact(rehearsal: Rehearsal) -> None:
    assert rehearsal.alva("synth").returncode == 0
    manifest = Manifest.read(rehearsal.home / "cdk.out" / "staging")
    builder = BundleBuilder(rehearsal.project, rehearsal.home / "images")
    target = Target.local(rehearsal.endpoint)
    quick = Poll(shortest_seconds=0.05, longest_seconds=0.5)
    images: list[str] = []
    for number in range(2):
        with rehearsal.edited("apps/web/app.py", f"\n# image {number} of the operations\n", append=True):
            images.append(builder.build(manifest.service("web"), lambda _line: None))
    ledger, lock = Ledger(Aws(target), manifest), Lock(Aws(target), manifest)

    def release(fault: Fault, digest: str) -> AlvaError | None:
        request = Request(digests={"web": digest}, commit="test", is_forced=True, allowed=frozenset(Kind))
        try:
            deploy(FaultyAws(fault, target, quick), manifest, request, builder, Silent())
        except AlvaError as error:
            return error
        return None

    def newest() -> int:
        latest = ledger.latest()
        return latest.number if latest is not None else 0

    start = str(rehearsal.digests()["web"])
    recording = Fault()
    assert release(recording, images[0]) is None
    runs, other = images[0], images[1]
    operations = sorted(recording.called)
    assert len(operations) > 20, operations
    problems: list[str] = []
    for operation, kind in zip(operations, itertools.cycle(KINDS), strict=False):
        before = newest()
        fault = Fault(operation, kind)
        failure = release(fault, other)
        says = f"{'.'.join(operation)} {kind}"
        if not fault.has_struck:
            problems.append(f"{says}: was not called")
        if lock.holder() is not None:
            problems.append(f"{says}: the lock is still held")
            lock.free_by_force()
        entries = [entry for entry in ledger.history() if entry.number > before]
        serving = rehearsal.digests()["web"]
        if failure is None:
            if [entry.outcome for entry in entries] != [SUCCEEDED] or serving != other:
                problems.append(f"{says}: said to be good, but {[e.outcome for e in entries]}, serves {serving}")
            runs, other = other, runs
            continue
        if operation in NOT_NEEDED:
            problems.append(f"{says}: failed: {failure}")
        problems += check(says, failure, [entry.outcome for entry in entries], serving, runs, other)
        runs, other = (runs, other) if serving == runs else (other, runs)
    release(Fault(), start)
    assert not problems, json.dumps(problems, indent=1)


def check(says: str, failure: AlvaError, outcomes: list[str], serving: str | None, runs: str, wanted: str) -> list[str]:
    """The differences from the expected state after a failed release."""
    if not outcomes:
        # No entry: the release failed before its first change, or the write of the ledger failed at its end.
        ledger_failed = "record the release" in failure.message
        if ledger_failed:
            return [] if serving == wanted else [f"{says}: the ledger failed and {serving} serves"]
        return [] if serving == runs else [f"{says}: failed before it began ({failure.message}), {serving} serves"]
    expected: Callable[[str], bool] = lambda outcome: outcome in (ROLLED_BACK, FAILED)  # noqa: E731
    wrong = []
    if len(outcomes) != 1 or not expected(outcomes[0]):
        wrong.append(f"{says}: the ledger says {outcomes}")
    if serving != runs:
        wrong.append(f"{says}: {serving} serves, not {runs}: {failure}")
    if failure.exit_code == 9:
        wrong.append(f"{says}: exit code 9, the rollback failed: {failure}")
    if outcomes == [ROLLED_BACK] and failure.exit_code != 5:
        wrong.append(f"{says}: rolled back with exit code {failure.exit_code}")
    return wrong
