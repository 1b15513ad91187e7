"""Each AWS operation of a release fails once: end state, exit code and ledger are right.

The operations are recorded from a release, with a control plane but no data plane: all functions that read running
tasks (the migration, the services' deployments, verification, drift) are replaced by a success.
"""

# ruff: noqa: ARG002 (a stand-in for the builder has the builder's signatures)

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import ConnectionClosedError

from alva.aws import Aws, Poll, Target
from alva.errors import AlvaError, RollbackFailed
from alva.release import automatic_rollback, dependency_checks, drift, migration, rollout, verify
from alva.release import deploy as engine
from alva.release.ledger import FAILED, INTERRUPTED, ROLLED_BACK, SUCCEEDED, Ledger
from alva.release.lock import Lock
from alva.release.manifest import Manifest, Service
from alva.release.reporting import Reporter
from alva.release.request import Request
from alva.release.risks import Kind
from alva.release.stack_state import running_digests
from alva.release.stacks import Stacks
from alva.release.verify import Result, Verdict

from .conftest import manifest_values, ministack

ERRORS = {
    "throttled": ("ThrottlingException", "Rate exceeded"),
    "denied": ("AccessDeniedException", "is not authorized to perform this operation"),
    "expired": ("ExpiredTokenException", "The security token included in the request is expired"),
}
KINDS = (*ERRORS, "dropped")


@dataclass
class Fault:
    """Makes a call of an operation fail, beyond all retries: the first one, or the first one after a step has begun."""

    operation: str = ""
    kind: str = ""
    in_a_step: bool = False
    has_begun: bool = False
    has_struck: bool = False
    called: dict[tuple[str, bool], int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def before_call(self, model: Any, **_: Any) -> Any:
        """Botocore's event before a request is sent; a returned response replaces the real one."""
        operation = f"{model.service_model.service_name}.{model.name}"
        with self._lock:
            key = (operation, self.has_begun)
            self.called[key] = self.called.get(key, 0) + 1
            if operation != self.operation or self.has_struck or (self.in_a_step and not self.has_begun):
                return None
            self.has_struck = True
        if self.kind == "dropped":
            raise ConnectionClosedError(endpoint_url="http://aws.example")
        code, message = ERRORS[self.kind]
        parsed = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        return AWSResponse("http://aws.example", 400, HTTPHeaders(), None), parsed


class FaultyAws(Aws):
    """AWS with the fault."""

    def __init__(self, fault: Fault, target: Target, poll: Poll) -> None:
        super().__init__(target, poll)
        self._fault = fault
        self._hooked: set[str] = set()

    def client(self, service: str) -> Any:
        client = super().client(service)
        with self._lock:
            if service not in self._hooked:
                self._hooked.add(service)
                client.meta.events.register("before-call", self._fault.before_call)
        return client


class Steps(Reporter):
    """A reporter that arms the fault at the first change, and stores the notes."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def step_started(self, key: str, title: str) -> None:
        self._fault.has_begun = True


class Deadly(Steps):
    """Kills a process when a step begins."""

    def __init__(self, step: str, process: int) -> None:
        super().__init__(Fault())
        self._step, self._process = step, process

    def step_started(self, key: str, title: str) -> None:
        if key == self._step:
            os.kill(self._process, signal.SIGKILL)


class Pushing:
    """A builder that has every image, as a manifest of one line."""

    def __init__(self) -> None:
        self.manifests: dict[str, str] = {}

    def image(self, name: str) -> str:
        """An image's digest."""
        text = json.dumps({"schemaVersion": 2, "annotations": {"name": name}})
        digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
        self.manifests[digest] = text
        return digest

    def build(self, service: Service, line: Callable[[str], None]) -> str:
        raise AssertionError("every digest is given")

    def has(self, digest: str) -> bool:
        return digest in self.manifests

    def find_folder(self, digest: str, path: str) -> Path | None:
        return None

    def push(self, service: Service, digest: str, tag: str, aws: Aws) -> None:
        with contextlib.suppress(aws.ecr.exceptions.ImageAlreadyExistsException):
            aws.ecr.put_image(
                repositoryName=service.repository,
                imageManifest=self.manifests[digest],
                imageManifestMediaType="application/vnd.oci.image.manifest.v1+json",
                imageTag=tag,
                imageDigest=digest,
            )


@dataclass
class Small:
    """A small environment, its releases, and their results."""

    target: Target
    manifest: Manifest
    builder: Pushing
    poll: Poll = field(default_factory=lambda: Poll(shortest_seconds=0.01, longest_seconds=0.05))

    def __post_init__(self) -> None:
        self.aws = Aws(self.target, self.poll)
        self.ledger, self.lock = Ledger(self.aws, self.manifest), Lock(self.aws, self.manifest)

    def release(
        self, digests: Mapping[str, str], fault: Fault, reporter: Reporter | None = None, *, migrates: bool = True
    ) -> AlvaError | None:
        """Release, with a migration; return the error with which it ended."""
        request = Request(digests=dict(digests), commit="test", is_forced=migrates, allowed=frozenset(Kind))
        aws = FaultyAws(fault, self.target, self.poll)
        try:
            engine.deploy(aws, self.manifest, request, self.builder, reporter or Steps(fault))
        except AlvaError as error:
            return error
        return None

    def release_and_be_killed(self, digests: Mapping[str, str], step: str) -> None:
        """Release in a separate process, which is killed when the step begins."""
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                self.release(digests, Fault(), Deadly(step, os.getpid()))
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL

    def runs(self) -> dict[str, str]:
        """The digests in the services stack, by service."""
        (name,) = (stack.name for stack in self.manifest.stacks_of("services"))
        stack = Stacks(self.aws).observe(name)
        assert stack is not None
        assert stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE"), stack.status
        return running_digests(self.manifest, stack)

    def forget(self, digest: str) -> None:
        """Delete an image from its repository, so that a release must push it."""
        repository = self.manifest.service("web").repository
        self.aws.ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageDigest": digest}])


def parameter(name: str, value: object) -> dict[str, Any]:
    return {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Name": name, "Value": value}}


@pytest.fixture
def small(endpoint_url: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """The environment, with its first release."""
    return small_environment(endpoint_url, name, tmp_path, monkeypatch)


def small_environment(endpoint_url: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Small:
    """A small environment at the endpoint, with its first release."""
    good = [Result(name="web answers /", verdict=Verdict.OK, reason="HTTP 200")]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("GITHUB_RUN_ID", raising=False)
    monkeypatch.setattr(migration, "run", lambda *_, **__: None)
    monkeypatch.setattr(rollout, "confirm", lambda *_, **__: None)
    monkeypatch.setattr(dependency_checks, "verify_with_dependencies", lambda *_, **__: good)
    monkeypatch.setattr(verify.Verification, "run_until_good", lambda *_: good)
    monkeypatch.setattr(automatic_rollback, "_still_failing_inside", lambda *_: ())
    monkeypatch.setattr(drift, "compare", lambda *_: drift.Found())
    values: Any = manifest_values(name)
    kept = {f"{name}-{short}" for short in ("registry", "ecs", "services")}
    values["stacks"] = [
        {**stack, "depends_on": [each for each in stack["depends_on"] if each in kept]}
        for stack in values["stacks"]
        if stack["name"] in kept
    ]
    values["secrets"] = [
        {"name": f"{name}-cookie-secret", "short_name": "cookie-secret", "kind": "random", "used_by": ["web"]}
    ]
    repositories = {
        service["name"].capitalize(): {
            "Type": "AWS::ECR::Repository",
            "Properties": {"RepositoryName": service["repository"]},
        }
        for service in values["services"]
    }
    digest = {"Type": "String"}
    templates = {
        "registry": {"Resources": repositories},
        "ecs": {
            "Parameters": {"MigrationsImageDigest": digest},
            "Resources": {"R": parameter(f"/{name}/m", {"Ref": "MigrationsImageDigest"})},
        },
        "services": {
            "Parameters": {"WebImageDigest": digest, "ApiImageDigest": digest},
            "Resources": {
                short: parameter(f"/{name}/{short}", {"Ref": f"{short}ImageDigest"}) for short in ("Web", "Api")
            },
        },
    }
    for short, template in templates.items():
        (tmp_path / f"{name}-{short}.template.json").write_text(json.dumps(template))
    made = Small(Target.local(endpoint_url), Manifest.from_values(values, tmp_path), Pushing())
    made.aws.secretsmanager.create_secret(Name=f"{name}-cookie-secret", SecretString="x" * 64)
    first = made.release({each: made.builder.image(f"{each} 0") for each in ("web", "api")}, Fault())
    assert first is None, first
    return made


@pytest.mark.parametrize(
    "ways", [pytest.param(1, id="in one way"), pytest.param(len(KINDS), id="in every way", marks=pytest.mark.nightly)]
)
def test_release_with_any_failed_operation_leaves_the_former_or_the_new_version_and_reports_which(
    small: Small, ways: int
) -> None:
    """Each operation fails in one way, in turn; the nightly run covers each operation with each way."""
    images = [small.builder.image(f"web {number}") for number in (1, 2)]
    recording = Fault()
    assert small.release({"web": images[0]}, recording) is None
    cases = sorted(recording.called)
    assert {operation for operation, _ in cases} >= {
        "cloudformation.CreateChangeSet",
        "cloudformation.DescribeStackEvents",
        "cloudformation.ExecuteChangeSet",
        "ecr.PutImage",
        "secretsmanager.GetSecretValue",
        "ssm.PutParameter",
    }
    problems: list[str] = []
    count = 0
    for turn, (operation, in_a_step) in enumerate(cases):
        for kind in (KINDS[(turn + way) % len(KINDS)] for way in range(ways)):
            before = small.runs()
            other = next(image for image in images if image != before["web"])
            small.forget(other)
            known = {entry.number for entry in small.ledger.history()}
            fault = Fault(operation, kind, in_a_step)
            error = small.release({"web": other}, fault)
            entries = [entry for entry in small.ledger.history() if entry.number not in known]
            says = f"{operation} {kind}{' in a step' if in_a_step else ''}"
            problems += [f"{says}: {each}" for each in wrong_after(small, fault, error, entries, before, other)]
            count += 1
    print(f"{len({operation for operation, _ in cases})} operations, {count} releases")
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("step", ["image:web", "stack:{prefix}-services", "verify"])
def test_release_after_a_killed_one_reports_it_and_records_both(small: Small, step: str) -> None:
    """The release was killed after its stack updates: the next one changes nothing, verifies and records what runs."""
    before, image = small.runs(), small.builder.image("web 1")
    known = {entry.number for entry in small.ledger.history()}
    small.release_and_be_killed({"web": image}, step.format(prefix=small.manifest.prefix))
    assert small.lock.holder() is not None

    reporter = Steps(Fault())
    error = small.release({"web": image}, Fault(), reporter, migrates=False)
    assert error is None, error
    assert small.runs() == {**before, "web": image}
    assert small.lock.holder() is None
    newer = [entry for entry in small.ledger.history() if entry.number not in known]
    assert [(entry.outcome, entry.commit) for entry in newer] == [(SUCCEEDED, "test"), (INTERRUPTED, "test")]
    assert newer[0].digests == {**before, "web": image}
    assert any("taking over the lock of a process that has ended" in note for note in reporter.notes)
    assert any(note.startswith(f"recorded as release {newer[1].number}, interrupted: ") for note in reporter.notes)


def test_unrecorded_release_is_recorded_when_the_command_is_repeated(small: Small) -> None:
    image = small.builder.image("web 1")
    failed = small.release({"web": image}, Fault("ssm.PutParameter", "denied", in_a_step=True))
    assert failed is not None
    assert failed.message.startswith("cannot record the release: it runs and its checks passed")
    assert small.ledger.history()[0].digests["web"] != image
    assert small.release({"web": image}, Fault(), migrates=False) is None
    newest = small.ledger.history()[0]
    assert (newest.outcome, newest.digests["web"]) == (SUCCEEDED, image)


@pytest.mark.usefixtures("immediate_retries")
def test_lost_endpoint_is_reported_with_the_operations_that_failed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ministack(tmp_path) as (url, process):
        small = small_environment(url, name, tmp_path, monkeypatch)
        image = small.builder.image("web 1")
        reporter = Deadly(f"stack:{name}-services", process.pid)
        error = small.release({"web": image}, Fault(), reporter)
    assert isinstance(error, RollbackFailed), error
    assert error.message == "cannot release, and cannot roll back"
    assert url in str(error)
    said = "; ".join(reporter.notes)
    assert "cannot write the ledger" in said
    assert "cannot free the lock" in said


def wrong_after(
    small: Small, fault: Fault, error: AlvaError | None, entries: list[Any], before: dict[str, str], other: str
) -> list[str]:
    """Return the differences from the expected state after one release."""
    found: list[str] = [] if fault.has_struck else ["the operation was not called"]
    if small.lock.holder() is not None:
        found.append("the lock is held")
        small.lock.free_by_force()
    runs, outcomes = small.runs(), [entry.outcome for entry in entries]
    if error is None:
        if outcomes != [SUCCEEDED] or runs != {**before, "web": other}:
            found.append(f"it ended well, the ledger says {outcomes}, {runs} runs")
    elif error.message.startswith("cannot record the release"):
        if outcomes or error.exit_code != 1 or runs != {**before, "web": other}:
            found.append(f"only the ledger failed: it says {outcomes}, {runs} runs")
    elif runs != before:
        found.append(f"it failed, and {runs} runs: {error}")
    elif not fault.has_begun and (outcomes or error.exit_code not in (1, 3, 5)):
        found.append(f"it failed before it began with exit code {error.exit_code}, the ledger says {outcomes}")
    elif fault.has_begun and (len(outcomes) != 1 or outcomes[0] not in (ROLLED_BACK, FAILED)):
        found.append(f"it failed in a step, the ledger says {outcomes}: {error}")
    elif outcomes == [ROLLED_BACK] and error.exit_code not in (5, 6):
        found.append(f"it was rolled back with exit code {error.exit_code}")
    elif error.exit_code == 9:
        found.append(f"its rollback failed: {error}")
    if error is not None and "does not run" in error.message:
        found.append(f"it says that the version does not run, and not what failed: {error}")
    if error is not None and not (error.message.startswith("cannot ") and error.evidence):
        found.append(f"an error without evidence: {error!r}")
    return found
