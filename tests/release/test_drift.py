"""How a release handles changes outside CloudFormation. No calls."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from alva.aws import Poll
from alva.release import drift, drift_repairs, rollout
from alva.release.drift import Drift, Found, Kind, MissingLogGroup, RestoreService, updates
from alva.release.manifest import Manifest
from alva.release.plan import ApplyServices, Observed, RevertDrift, Wanted, make_plan
from alva.release.stack_state import ObservedStack

WEB_BACK = RestoreService(service="alva-web", task_definition="web:12", desired_count=1, needs_deployment=True)
LOGS_BACK = MissingLogGroup(name="/alva/api", retention_days=30)
DRIFTS = (
    Drift(kind=Kind.TASK_DEFINITION, subject="web", message="runs web:13, its stack says web:12", repair=WEB_BACK),
    Drift(kind=Kind.DESIRED_COUNT, subject="web", message="its desired count is 0", repair=WEB_BACK),
    Drift(kind=Kind.LOG_GROUP, subject="api", message="its log group does not exist", repair=LOGS_BACK),
    Drift(kind=Kind.RESOURCE, subject="s/Rule", message="the listener rule does not exist", next_step="aws ..."),
)


def services_template(manifest: Manifest, **environment: str) -> dict[str, Any]:
    """A task definition and a service for each service; `environment` is web's."""
    resources: dict[str, Any] = {}
    for service in manifest.services:
        task = {"Environment": environment} if service.name == "web" else {}
        resources[f"{service.name}Task"] = {"Type": "AWS::ECS::TaskDefinition", "Properties": task}
        properties = {"ServiceName": service.service, "TaskDefinition": {"Ref": f"{service.name}Task"}}
        resources[f"{service.name}Service"] = {"Type": "AWS::ECS::Service", "Properties": properties}
    parameters = {service.image_parameter: {"Type": "String"} for service in manifest.services}
    return {"Parameters": parameters, "Resources": resources}


def plan_of(manifest: Manifest, digests: dict[str, str], **environment: str) -> Any:
    """The plan if web and api run image 1, and all of `DRIFTS` was found."""
    name = manifest.stack("services").name
    parameters = {service.image_parameter: "sha256:1" for service in manifest.services}
    observed = Observed(
        stacks={
            stack.name: ObservedStack(
                name=stack.name,
                status="UPDATE_COMPLETE",
                template=services_template(manifest) if stack.name == name else {},
                parameters=parameters if stack.name == name else {},
                tags=manifest.tags,
            )
            for stack in manifest.stacks
        },
        published=frozenset(digests),
        migrated_digest=digests["api"],
        secrets_ready=True,
        drift=Found(drifts=DRIFTS),
    )
    templates: dict[str, Any] = {stack.name: {} for stack in manifest.stacks}
    templates[name] = services_template(manifest, **environment)
    return make_plan(Wanted(manifest=manifest, templates=templates, digests=digests), observed)


def test_release_without_a_change_reverts_drift(manifest: Manifest) -> None:
    plan = plan_of(manifest, {"web": "sha256:1", "api": "sha256:1"})
    (step,) = plan.steps
    assert isinstance(step, RevertDrift)
    assert step.repairs == (WEB_BACK, LOGS_BACK)


@pytest.mark.parametrize(
    ("digest", "environment"), [("sha256:2", {}), ("sha256:1", {"LOG_LEVEL": "debug"})], ids=["image", "environment"]
)
def test_drift_of_an_updated_service_is_reverted_by_its_update(
    manifest: Manifest, digest: str, environment: dict[str, str]
) -> None:
    plan = plan_of(manifest, {"web": digest, "api": "sha256:1"}, **environment)
    revert, *_, services = plan.steps
    assert isinstance(revert, RevertDrift)
    assert revert.repairs == (LOGS_BACK,)
    assert isinstance(services, ApplyServices)
    assert revert.key in services.after


def test_service_counts_as_updated_by_its_own_task_definition_only(manifest: Manifest) -> None:
    former, template = services_template(manifest), services_template(manifest, LOG_LEVEL="debug")
    assert updates(manifest.service("web"), former, template)
    assert not updates(manifest.service("api"), former, template)


def test_service_whose_rollback_failed_gets_a_new_deployment(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ECS no longer starts tasks for it, and CloudFormation finds no change."""
    web = manifest.service("web")
    deployments = [{"serviceDeploymentArn": "old", "status": "ROLLBACK_FAILED"}]
    running = {"taskDefinition": "web:12", "desiredCount": 1, "runningCount": 0}
    updated: list[dict[str, Any]] = []

    def update_service(**arguments: Any) -> None:
        updated.append(arguments)
        deployments.append({"serviceDeploymentArn": "new", "status": "SUCCESSFUL"})
        running["runningCount"] = 1

    aws: Any = SimpleNamespace(
        ecs=SimpleNamespace(update_service=update_service), poll=Poll(shortest_seconds=0.0, longest_seconds=0.0)
    )
    monkeypatch.setattr(rollout, "last_deployment", lambda *_: deployments[-1])
    monkeypatch.setattr(rollout, "describe_services", lambda *_: {web.service: running})
    stack = ObservedStack(name="services", status="UPDATE_COMPLETE")
    properties = {"TaskDefinition": {"Ref": "Task"}, "DesiredCount": 1}
    (found,) = drift._service(aws, manifest, stack, web, properties, {"Task": "web:12"}, cast("Any", running))
    assert (found.kind, found.asks) == (Kind.DEPLOYMENT, False)
    assert found.repair is not None
    drift_repairs.revert_drift(aws, manifest, [found.repair])
    assert [(each["forceNewDeployment"], each["taskDefinition"], each["desiredCount"]) for each in updated] == [
        (True, "web:12", 1)
    ]
