"""Application Auto Scaling, which MiniStack lacks: scalable targets and scaling policies of ECS services, as records.

Honoured: register, describe, deregister. Without effect: no policy and no scheduled action changes a desired count. CPU
and memory on one machine do not represent a service's load on AWS, and scaling would change services during a test.
`docs/reference/region.md` documents this.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ministack.core.responses import get_account_id, get_region

from alva.region import json_protocol
from alva.region.aws_error import AwsError
from alva.region.unexpected import Response
from alva.region.validation import Rules, guard_json

Json = dict[str, Any]
Forward = Callable[[str, Json], Awaitable[Json]]


class Scaling:
    """The targets and policies, and the API (JSON 1.1, target AnyScaleFrontendService)."""

    def __init__(self) -> None:
        self._targets: dict[str, Json] = {}
        self._policies: dict[str, Json] = {}
        rules = Rules(code="ValidationException", answers=self.operations)
        self.handle_request = guard_json("application-autoscaling", rules, self._refuse)

    @property
    def operations(self) -> Mapping[str, Callable[[Json, Forward], Awaitable[Json]]]:
        """The actions, by name."""
        return {
            "RegisterScalableTarget": self.register_scalable_target,
            "DeregisterScalableTarget": self.deregister_scalable_target,
            "PutScalingPolicy": self.put_scaling_policy,
            "DeleteScalingPolicy": self.delete_scaling_policy,
            "DescribeScalableTargets": self.describe_scalable_targets,
            "DescribeScalingPolicies": self.describe_scaling_policies,
        }

    async def _refuse(
        self,
        method: str,  # noqa: ARG002
        path: str,  # noqa: ARG002
        headers: dict[str, str],
        body: bytes,  # noqa: ARG002
        query_params: Json,  # noqa: ARG002
    ) -> Response:
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        what = f"the local region does not have application-autoscaling {action}"
        return json_protocol.refuse(AwsError("UnknownOperationException", what))

    async def register_scalable_target(self, request: Json, _forward: Forward) -> Json:
        """Register a target, or change its capacity limits (RegisterScalableTarget)."""
        key = _key(request)
        known: Json = self._targets.get(key, {})
        if not known and not {"MinCapacity", "MaxCapacity"} <= set(request):
            raise _invalid("MinCapacity and MaxCapacity are required to register a scalable target")
        limits = {**known, **request}
        minimum, maximum = int(limits["MinCapacity"]), int(limits["MaxCapacity"])
        if minimum > maximum:
            raise _invalid("Maximum capacity cannot be less than minimum capacity")
        if request["ServiceNamespace"] != "ecs" or request["ScalableDimension"] != "ecs:service:DesiredCount":
            raise _invalid("the local region scales ecs:service:DesiredCount only")
        prefix = f"arn:aws:application-autoscaling:{get_region()}:{get_account_id()}"
        self._targets[key] = {
            "ScalableTargetARN": f"{prefix}:scalable-target/{uuid.uuid4().hex[:28]}",
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
        return {"ScalableTargetARN": self._targets[key]["ScalableTargetARN"]}

    async def deregister_scalable_target(self, request: Json, _forward: Forward) -> Json:
        """Delete a target and its policies (DeregisterScalableTarget)."""
        if self._targets.pop(_key(request), None) is None:
            raise AwsError("ObjectNotFoundException", f"No scalable target found for {_describe(request)}")
        for arn in [arn for arn, policy in self._policies.items() if _key(policy) == _key(request)]:
            del self._policies[arn]
        return {}

    async def put_scaling_policy(self, request: Json, _forward: Forward) -> Json:
        """Create or change a policy (PutScalingPolicy)."""
        if _key(request) not in self._targets:
            raise AwsError("ObjectNotFoundException", f"No scalable target registered for {_describe(request)}")
        known = next(
            (
                arn
                for arn, policy in self._policies.items()
                if policy["PolicyName"] == request["PolicyName"] and _key(policy) == _key(request)
            ),
            None,
        )
        arn = known or (
            f"arn:aws:autoscaling:{get_region()}:{get_account_id()}:scalingPolicy:{uuid.uuid4()}:resource/"
            f"{request['ServiceNamespace']}/{request['ResourceId']}:policyName/{request['PolicyName']}"
        )
        before = self._policies.get(arn, {"CreationTime": time.time(), "Alarms": []})
        self._policies[arn] = {**before, **request, "PolicyARN": arn}
        return {"PolicyARN": arn, "Alarms": []}

    async def delete_scaling_policy(self, request: Json, _forward: Forward) -> Json:
        """Delete a policy (DeleteScalingPolicy)."""
        for arn, policy in list(self._policies.items()):
            if policy["PolicyName"] == request.get("PolicyName") and _key(policy) == _key(request):
                del self._policies[arn]
                return {}
        raise AwsError("ObjectNotFoundException", f"No scaling policy found for {_describe(request)}")

    async def describe_scalable_targets(self, request: Json, _forward: Forward) -> Json:
        """DescribeScalableTargets, in one page."""
        wanted = request.get("ResourceIds") or []
        return {
            "ScalableTargets": [
                target
                for target in self._targets.values()
                if target["ServiceNamespace"] == request.get("ServiceNamespace")
                and (not wanted or target["ResourceId"] in wanted)
                and request.get("ScalableDimension") in (None, target["ScalableDimension"])
            ]
        }

    async def describe_scaling_policies(self, request: Json, _forward: Forward) -> Json:
        """DescribeScalingPolicies, in one page."""
        names = request.get("PolicyNames") or []
        return {
            "ScalingPolicies": [
                policy
                for policy in self._policies.values()
                if policy["ServiceNamespace"] == request.get("ServiceNamespace")
                and request.get("ResourceId") in (None, policy["ResourceId"])
                and (not names or policy["PolicyName"] in names)
            ]
        }

    def get_state(self) -> Json:
        return {"targets": self._targets, "policies": self._policies}

    def load_persisted_state(self, data: Json) -> None:
        self._targets.update(data["targets"])
        self._policies.update(data["policies"])

    def reset(self) -> None:
        self._targets.clear()
        self._policies.clear()


def _key(request: Json) -> str:
    try:
        return "|".join(request[name] for name in ("ServiceNamespace", "ResourceId", "ScalableDimension"))
    except KeyError as error:
        raise _invalid(f"{error.args[0]} is required") from error


def _describe(request: Json) -> str:
    return (
        f"service namespace: {request['ServiceNamespace']}, resource ID: {request['ResourceId']}, scalable dimension: "
        f"{request['ScalableDimension']}"
    )


def _service_linked_role() -> str:
    return (
        f"arn:aws:iam::{get_account_id()}:role/aws-service-role/ecs.application-autoscaling.amazonaws.com/"
        "AWSServiceRoleForApplicationAutoScaling_ECSService"
    )


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationException", message)
