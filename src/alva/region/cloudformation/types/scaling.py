"""AWS::ApplicationAutoScaling::ScalableTarget and ScalingPolicy, kept by the region's Application Auto Scaling."""

from __future__ import annotations

from typing import Any

from alva.region import scaling
from alva.region.cloudformation import registry
from alva.region.cloudformation.api import HandlerFailed
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned

_KEY = ("ServiceNamespace", "ResourceId", "ScalableDimension")


async def create_target(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    _call(scaling.register_scalable_target, {key: properties[key] for key in properties if key != "ScheduledActions"})
    # The physical id's form: resource reference, "Return values".
    physical_id = "|".join(properties[key] for key in ("ResourceId", "ScalableDimension", "ServiceNamespace"))
    return physical_id, {"Id": physical_id}


async def update_target(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    return await create_target("", new, stack_name)


async def delete_target(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    key = {name: properties[name] for name in _KEY}
    if scaling.scalable_target(**_as_arguments(key)) is not None:
        _call(scaling.deregister_scalable_target, key)


async def create_policy(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    request = dict(properties)
    if target_id := request.pop("ScalingTargetId", None):
        request["ResourceId"], request["ScalableDimension"], request["ServiceNamespace"] = target_id.split("|")
    arn = _call(scaling.put_scaling_policy, request)["PolicyARN"]
    return arn, {"Arn": arn}


async def update_policy(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    return await create_policy("", new, stack_name)


async def delete_policy(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    scaling.forget_policy(physical_id)


def _as_arguments(key: Properties) -> dict[str, str]:
    return {
        "service_namespace": key["ServiceNamespace"],
        "resource_id": key["ResourceId"],
        "scalable_dimension": key["ScalableDimension"],
    }


def _call(operation: scaling.Operation, request: Properties) -> dict[str, Any]:
    try:
        return operation(request)
    except scaling.ScalingError as error:
        raise HandlerFailed(f"{error} (Service: ApplicationAutoScaling, Status Code: 400)", "InvalidRequest") from error


def register() -> None:
    registry.register(
        "AWS::ApplicationAutoScaling::ScalableTarget",
        Handlers(create=create_target, update=update_target, delete=delete_target, replacing_properties=_KEY),
    )
    registry.register(
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        Handlers(
            create=create_policy,
            update=update_policy,
            delete=delete_policy,
            replacing_properties=("PolicyName", "ScalingTargetId", *_KEY),
        ),
    )
