"""Application Auto Scaling, which MiniStack lacks: scalable targets and scaling policies of ECS services, as records.

Honoured: registering, describing, deregistering. Without effect: no policy and no scheduled action changes a desired
count. CPU and memory of a rehearsal on one machine say nothing about a service's load on AWS, and a service that scaled
by them would change under a test's hands. `docs/reference/region.md` says so.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from ministack.core.responses import get_account_id, get_region

Operation = Callable[[dict[str, Any]], dict[str, Any]]

_targets: dict[str, dict[str, Any]] = {}
_policies: dict[str, dict[str, Any]] = {}


class ScalingError(Exception):
    """A refused request; `code` is Application Auto Scaling's exception."""

    def __init__(self, message: str, code: str = "ValidationException") -> None:
        super().__init__(message)
        self.code = code


def scalable_target(service_namespace: str, resource_id: str, scalable_dimension: str) -> dict[str, Any] | None:
    """The registered target, if there is one."""
    return _targets.get("|".join((service_namespace, resource_id, scalable_dimension)))


def register_scalable_target(request: dict[str, Any]) -> dict[str, Any]:
    """Register a target, or change its capacity limits (RegisterScalableTarget)."""
    key = _key(request)
    known = _targets.get(key, {})
    if not known and not {"MinCapacity", "MaxCapacity"} <= set(request):
        raise ScalingError("MinCapacity and MaxCapacity are required to register a scalable target")
    minimum = int(request.get("MinCapacity", known.get("MinCapacity", 0)))
    maximum = int(request.get("MaxCapacity", known.get("MaxCapacity", 0)))
    if minimum > maximum:
        raise ScalingError("Maximum capacity cannot be less than minimum capacity")
    if request["ServiceNamespace"] != "ecs" or request["ScalableDimension"] != "ecs:service:DesiredCount":
        raise ScalingError("the local region scales ecs:service:DesiredCount only")
    arn = f"arn:aws:application-autoscaling:{get_region()}:{get_account_id()}:scalable-target/{uuid.uuid4().hex[:28]}"
    _targets[key] = {
        "ScalableTargetARN": arn,
        "CreationTime": time.time(),
        "SuspendedState": {
            "DynamicScalingInSuspended": False,
            "DynamicScalingOutSuspended": False,
            "ScheduledScalingSuspended": False,
        },
        **known,
        "ServiceNamespace": request["ServiceNamespace"],
        "ResourceId": request["ResourceId"],
        "ScalableDimension": request["ScalableDimension"],
        "MinCapacity": minimum,
        "MaxCapacity": maximum,
        "RoleARN": request.get("RoleARN") or known.get("RoleARN") or _service_linked_role(),
    }
    return {"ScalableTargetARN": _targets[key]["ScalableTargetARN"]}


def deregister_scalable_target(request: dict[str, Any]) -> dict[str, Any]:
    """Forget a target and its policies (DeregisterScalableTarget)."""
    if _targets.pop(_key(request), None) is None:
        raise ScalingError(f"No scalable target found for {_describe(request)}", "ObjectNotFoundException")
    for arn in [arn for arn, policy in _policies.items() if _key(policy) == _key(request)]:
        del _policies[arn]
    return {}


def put_scaling_policy(request: dict[str, Any]) -> dict[str, Any]:
    """Create or change a policy (PutScalingPolicy)."""
    if _key(request) not in _targets:
        raise ScalingError(f"No scalable target registered for {_describe(request)}", "ObjectNotFoundException")
    known = next(
        (
            arn
            for arn, policy in _policies.items()
            if policy["PolicyName"] == request["PolicyName"] and _key(policy) == _key(request)
        ),
        None,
    )
    arn = known or (
        f"arn:aws:autoscaling:{get_region()}:{get_account_id()}:scalingPolicy:{uuid.uuid4()}:resource/"
        f"{request['ServiceNamespace']}/{request['ResourceId']}:policyName/{request['PolicyName']}"
    )
    _policies[arn] = {"CreationTime": time.time(), "Alarms": [], **_policies.get(arn, {}), **request, "PolicyARN": arn}
    return {"PolicyARN": arn, "Alarms": []}


def delete_scaling_policy(request: dict[str, Any]) -> dict[str, Any]:
    """Forget a policy (DeleteScalingPolicy)."""
    for arn, policy in list(_policies.items()):
        if policy["PolicyName"] == request.get("PolicyName") and _key(policy) == _key(request):
            del _policies[arn]
            return {}
    raise ScalingError(f"No scaling policy found for {_describe(request)}", "ObjectNotFoundException")


def forget_policy(arn: str) -> None:
    """Forget a policy by its ARN; an unknown one is no error."""
    _policies.pop(arn, None)


def describe_scalable_targets(request: dict[str, Any]) -> dict[str, Any]:
    """DescribeScalableTargets, in one page."""
    wanted = request.get("ResourceIds") or []
    return {
        "ScalableTargets": [
            target
            for target in _targets.values()
            if target["ServiceNamespace"] == request.get("ServiceNamespace")
            and (not wanted or target["ResourceId"] in wanted)
            and request.get("ScalableDimension") in (None, target["ScalableDimension"])
        ]
    }


def describe_scaling_policies(request: dict[str, Any]) -> dict[str, Any]:
    """DescribeScalingPolicies, in one page."""
    names = request.get("PolicyNames") or []
    return {
        "ScalingPolicies": [
            policy
            for policy in _policies.values()
            if policy["ServiceNamespace"] == request.get("ServiceNamespace")
            and request.get("ResourceId") in (None, policy["ResourceId"])
            and (not names or policy["PolicyName"] in names)
        ]
    }


def _key(request: dict[str, Any]) -> str:
    try:
        return "|".join(request[name] for name in ("ServiceNamespace", "ResourceId", "ScalableDimension"))
    except KeyError as error:
        raise ScalingError(f"{error.args[0]} is required") from error


def _describe(request: dict[str, Any]) -> str:
    return (
        f"service namespace: {request['ServiceNamespace']}, resource ID: {request['ResourceId']}, scalable dimension: "
        f"{request['ScalableDimension']}"
    )


def _service_linked_role() -> str:
    return (
        f"arn:aws:iam::{get_account_id()}:role/aws-service-role/ecs.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_ECSService"
    )


OPERATIONS: dict[str, Operation] = {
    "RegisterScalableTarget": register_scalable_target,
    "DeregisterScalableTarget": deregister_scalable_target,
    "DescribeScalableTargets": describe_scalable_targets,
    "PutScalingPolicy": put_scaling_policy,
    "DeleteScalingPolicy": delete_scaling_policy,
    "DescribeScalingPolicies": describe_scaling_policies,
}


async def handle_request(
    method: str,  # noqa: ARG001
    path: str,  # noqa: ARG001
    headers: dict[str, str],
    body: bytes,
    query_params: dict[str, Any],  # noqa: ARG001
) -> tuple[int, dict[str, str], bytes]:
    """The API (JSON 1.1, target AnyScaleFrontendService)."""
    action = headers.get("x-amz-target", "").rpartition(".")[2]
    json_type = {"Content-Type": "application/x-amz-json-1.1"}
    operation = OPERATIONS.get(action)
    try:
        if operation is None:
            raise ScalingError(
                f"the local region does not have application-autoscaling {action}", "UnknownOperationException"
            )
        return 200, json_type, json.dumps(operation(json.loads(body or b"{}"))).encode()
    except ScalingError as error:
        return 400, json_type, json.dumps({"__type": error.code, "message": str(error)}).encode()


def get_state() -> dict[str, Any]:
    return {"targets": _targets, "policies": _policies}


def load_persisted_state(data: dict[str, Any]) -> None:
    _targets.update(data["targets"])
    _policies.update(data["policies"])


def reset() -> None:
    _targets.clear()
    _policies.clear()
