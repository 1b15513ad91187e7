"""AWS::ApplicationAutoScaling::ScalableTarget and ScalingPolicy, stored by the region's Application Auto Scaling."""

from __future__ import annotations

from alva.region.cloudformation.handler_failure import HandlerFailed, call
from alva.region.cloudformation.inputs import from_properties
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry
from alva.region.constraints import service_model

_SERVICE = "application-autoscaling"
_TARGET = ("MinCapacity", "MaxCapacity", "RoleARN", "SuspendedState")
_KEY = ("ServiceNamespace", "ResourceId", "ScalableDimension")


async def create_target(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    request = {key: properties[key] for key in (*_KEY, *_TARGET) if key in properties}
    await _call("RegisterScalableTarget", request)
    # The physical id's form: resource reference, "Return values".
    physical_id = "|".join(properties[key] for key in ("ResourceId", "ScalableDimension", "ServiceNamespace"))
    return physical_id, {"Id": physical_id}


async def update_target(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    return await create_target("", new, stack_name)


async def delete_target(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    await _delete("DeregisterScalableTarget", {name: properties[name] for name in _KEY})


async def create_policy(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    arn = (await _call("PutScalingPolicy", _policy(properties)))["PolicyARN"]
    return arn, {"Arn": arn}


async def update_policy(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    return await create_policy("", new, stack_name)


async def delete_policy(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    request = _policy(properties)
    await _delete("DeleteScalingPolicy", {name: request[name] for name in ("PolicyName", *_KEY)})


def _policy(properties: Properties) -> Properties:
    request = dict(properties)
    if target_id := request.pop("ScalingTargetId", None):
        request["ResourceId"], request["ScalableDimension"], request["ServiceNamespace"] = target_id.split("|")
    return request


async def _call(action: str, request: Properties) -> Properties:
    shape = service_model(_SERVICE).operation_model(action).input_shape
    assert shape is not None  # noqa: S101 - every action used here has one
    return await call(_SERVICE, action, from_properties(request, shape))


async def _delete(action: str, request: Properties) -> None:
    try:
        await _call(action, request)
    except HandlerFailed as error:
        if error.code != "NotFound":
            raise


def register(registry: Registry) -> None:
    registry.register(
        "AWS::ApplicationAutoScaling::ScalableTarget",
        Handlers(create=create_target, update=update_target, delete=delete_target),
    )
    registry.register(
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        Handlers(create=create_policy, update=update_policy, delete=delete_policy),
    )
