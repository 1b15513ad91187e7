"""Steps run in the order of the plan, in parallel where possible, and none starts after a failure."""

# ruff: noqa: ARG002 (stand-ins have the signatures of the engine's protocols)

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alva.aws import Aws, Poll
from alva.errors import PreflightRefused, StackFailed, TimedOut
from alva.release.executor import Executor
from alva.release.manifest import Manifest, Service, Stack
from alva.release.plan import ApplyStack, CheckSecrets, Plan, PublishImage, Wanted
from alva.release.stack_state import Action
from alva.release.stacks import Stacks


class Record:
    """A reporter that records the steps; `on_start` is called when a step begins."""

    def __init__(self) -> None:
        self.finished: dict[str, str] = {}
        self.order: list[str] = []
        self.notes: list[str] = []
        self.on_start: dict[str, Any] = {}

    def expect(self, step_seconds: Mapping[str, float]) -> None:
        return None

    def step_started(self, key: str, title: str) -> None:
        self.order.append(key)
        if (call := self.on_start.get(key)) is not None:
            call()

    def step_line(self, key: str, text: str) -> None:
        return None

    def step_finished(self, key: str, outcome: str, detail: str = "") -> None:
        self.finished[key] = outcome

    def note(self, text: str) -> None:
        self.notes.append(text)


class NoBuilder:
    """A builder without images that cannot build."""

    def build(self, service: Service, line: Any) -> str:
        raise AssertionError(f"nobody asked for an image of {service.name}")

    def has(self, digest: str) -> bool:
        return False

    def find_folder(self, digest: str, path: str) -> Path | None:
        return None

    def push(self, service: Service, digest: str, tag: str, aws: Aws) -> None:
        raise AssertionError("nobody asked for a push")


def parameter(name: str) -> dict[str, Any]:
    return {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Name": name, "Value": "x"}}


def executor(aws: Aws, manifest: Manifest, templates: dict[str, dict[str, Any]], record: Record) -> Executor:
    wanted = Wanted(manifest=manifest, templates=templates, digests={})
    return Executor(aws=aws, wanted=wanted, builder=NoBuilder(), reporter=record)


def apply_step(name: str, *after: str) -> ApplyStack:
    return ApplyStack(
        key=name,
        title=name,
        after=after,
        stack=Stack(name=name, short_name=name, template_file=Path("unused"), depends_on=(), phase="data"),
        action=Action.CREATE,
    )


def test_steps_wait_for_those_they_name(aws: Aws, manifest: Manifest, name: str) -> None:
    record = Record()
    names = [f"{name}-{i}" for i in range(3)]
    templates = {n: {"Resources": {"R": parameter(f"/{n}/x")}} for n in names}
    plan = Plan(steps=(apply_step(names[2], names[1]), apply_step(names[1], names[0]), apply_step(names[0])))
    executor(aws, manifest, templates, record).run(plan)
    assert record.order == names
    assert all(Stacks(aws).observe(n) is not None for n in names)


def test_independent_steps_run_side_by_side(aws: Aws, manifest: Manifest, name: str) -> None:
    record = Record()
    names = [f"{name}-{i}" for i in range(4)]
    together = threading.Barrier(len(names), timeout=10)
    record.on_start = dict.fromkeys(names, together.wait)
    templates = {n: {"Resources": {"R": parameter(f"/{n}/x")}} for n in names}
    executor(aws, manifest, templates, record).run(Plan(steps=tuple(apply_step(n) for n in names)))
    assert not together.broken


def test_after_a_failure_no_step_begins_and_those_that_run_end(aws: Aws, manifest: Manifest, name: str) -> None:
    record = Record()
    bad, beside, later = f"{name}-bad", f"{name}-beside", f"{name}-later"
    templates = {
        bad: {"Resources": {"R": parameter("aws-not-allowed")}},
        beside: {"Resources": {"R": parameter(f"/{beside}/x")}},
        later: {"Resources": {"R": parameter(f"/{later}/x")}},
    }
    plan = Plan(steps=(apply_step(bad), apply_step(beside), apply_step(later, bad, beside)))
    with pytest.raises(StackFailed, match=bad):
        executor(aws, manifest, templates, record).run(plan)
    assert record.finished == {bad: "failed", beside: "done"}
    assert Stacks(aws).observe(later) is None


def test_release_continues_without_an_optional_stack(aws: Aws, manifest: Manifest, name: str) -> None:
    record = Record()
    budget, later = f"{name}-budget", f"{name}-later"
    templates = {
        budget: {"Resources": {"R": parameter("aws-not-allowed")}},
        later: {"Resources": {"R": parameter(f"/{later}/x")}},
    }
    step = apply_step(budget)
    step = replace(step, stack=replace(step.stack, is_optional=True))
    executor(aws, manifest, templates, record).run(Plan(steps=(step, apply_step(later, budget))))
    assert Stacks(aws).observe(later) is not None
    (note,) = record.notes
    assert note.startswith(f"the release continues without stack {budget}: cannot create stack {budget}")
    assert "R (AWS::SSM::Parameter)" in note


def test_interrupted_step_ends_as_cancelled(aws: Aws, manifest: Manifest, name: str) -> None:
    record = Record()
    interrupted = Aws(aws.target, Poll(shortest_seconds=0.02))
    record.on_start = {name: interrupted.poll.interrupt.set}
    never = {
        "Handle": {"Type": "AWS::CloudFormation::WaitConditionHandle"},
        "Never": {
            "Type": "AWS::CloudFormation::WaitCondition",
            "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": "600"},
        },
    }
    templates = {name: {"Resources": never}}
    with pytest.raises(KeyboardInterrupt):
        executor(interrupted, manifest, templates, record).run(Plan(steps=(apply_step(name),)))
    assert record.finished == {name: "cancelled"}


def test_step_after_the_deadline_does_not_start(aws: Aws, manifest: Manifest, name: str) -> None:
    record = Record()
    late = executor(aws, manifest, {name: {"Resources": {"R": parameter(f"/{name}/x")}}}, record)
    with pytest.raises(TimedOut, match=r"cannot .*: the time limit of 0 s has passed"), aws.poll.limited(0):
        late.run(Plan(steps=(apply_step(name),)))
    assert late.begun == set()
    assert Stacks(aws).observe(name) is None


def test_secrets_are_generated_only_on_request(aws: Aws, manifest: Manifest) -> None:
    for secret in manifest.secrets:
        aws.secretsmanager.create_secret(Name=secret.name, SecretString="alva:unset")
    plan = Plan(steps=(CheckSecrets(key="secrets", title="secrets"),))
    only_check = executor(aws, manifest, {}, Record())
    with pytest.raises(PreflightRefused):
        only_check.run(plan)
    keys = {secret.name: "sk-standin" for secret in manifest.secrets if secret.kind == "api-key"}
    replace(only_check, secret_values=keys).run(plan)
    only_check.run(plan)


def test_known_digest_is_pushed_without_a_build(aws: Aws, manifest: Manifest) -> None:
    pushed: list[str] = []

    class Holder(NoBuilder):
        def push(self, service: Service, digest: str, tag: str, aws: Aws) -> None:
            pushed.append(f"{service.repository}:{tag}@{digest}")

    digest = "sha256:" + "ab" * 32
    wanted = Wanted(manifest=manifest, templates={}, digests={"web": digest})
    run = Executor(aws=aws, wanted=wanted, builder=Holder(), reporter=Record())
    run.run(Plan(steps=(PublishImage(key="image:web", title="publish the image of web", service="web"),)))
    assert pushed == [f"{manifest.prefix}-web:{'ab' * 10}@{digest}"]
