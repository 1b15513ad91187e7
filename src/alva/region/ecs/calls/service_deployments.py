"""Describes service deployments and revisions, and stops a deployment."""

from __future__ import annotations

import time
from typing import Any

from alva.region.ecs import render, rollouts
from alva.region.ecs.controller import Controller
from alva.region.ecs.errors import EcsError, service_not_found
from alva.region.ecs.model import Json, Service, ServiceDeployment
from alva.region.ecs.paging import described, page
from alva.region.ecs.state import State


def _find(state: State, arn: str) -> tuple[Service, ServiceDeployment] | None:
    for service in state.services.values():
        for deployment in service.service_deployments:
            if deployment.arn == arn:
                return service, deployment
    return None


def describe_service_deployments(state: State, request: Json) -> Json:
    """DescribeServiceDeployments; unknown ones are failures, not errors."""
    found = [(arn, _find(state, arn)) for arn in request["serviceDeploymentArns"]]
    return described("serviceDeployments", found, lambda pair: render.service_deployment(state, *pair))


def list_service_deployments(state: State, request: Json) -> Json:
    """ListServiceDeployments of one service, newest first."""
    reference = request["service"]
    parts = reference.split("/")
    cluster = request.get("cluster") or (parts[1] if reference.startswith("arn:") and len(parts) == 3 else None)
    service = state.find_service(state.cluster(cluster), reference)
    if service is None:
        raise service_not_found()
    between = request.get("createdAt") or {}
    after, before = _seconds(between.get("after"), 0.0), _seconds(between.get("before"), float("inf"))
    wanted = request.get("status") or []
    found = [
        render.service_deployment_brief(service, d)
        for d in service.service_deployments
        if (not wanted or d.status in wanted) and after <= d.created_at <= before
    ]
    return page("serviceDeployments", found, request)


def _seconds(value: Any, default: float) -> float:
    return default if value is None else float(value)


def describe_service_revisions(state: State, request: Json) -> Json:
    """DescribeServiceRevisions; unknown ones are failures, not errors."""
    revisions = {revision.arn: (each, revision) for each in state.services.values() for revision in each.revisions}
    found = [(arn, revisions.get(arn)) for arn in request["serviceRevisionArns"]]
    return described("serviceRevisions", found, lambda pair: render.revision(state, *pair))


def stop_service_deployment(state: State, controller: Controller, request: Json) -> Json:
    """StopServiceDeployment: ROLLBACK (the default) returns to the last completed revision; ABORT only stops."""
    pair = _find(state, request["serviceDeploymentArn"])
    if pair is None:
        raise EcsError("ServiceDeploymentNotFoundException", "Service deployment not found.")
    service, deployment = pair
    if deployment.status.is_final or deployment.rollback is not None:
        raise EcsError("ConflictException", "The service deployment is not in a state that can be stopped.")
    rollouts.stop_on_request(service, deployment, request.get("stopType") or "ROLLBACK", time.time())
    controller.changed()
    return {"serviceDeploymentArn": deployment.arn}
