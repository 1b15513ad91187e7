"""AWS::EC2::NatGateway. A record only: a route to it lets tasks reach the stand-ins for the internet (`network/`)."""

from __future__ import annotations

from typing import Any

from alva.region.cloudformation import tags
from alva.region.cloudformation.handler_failure import HandlerFailed, call
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry

HONOURED = {"SubnetId", "AllocationId", "ConnectivityType", "Tags"}


async def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    if unknown := set(properties) - HONOURED:
        raise HandlerFailed(
            f"the local region does not honour {', '.join(sorted(unknown))} of AWS::EC2::NatGateway", "InvalidRequest"
        )
    await call("ec2", "DescribeSubnets", {"SubnetIds": [properties.get("SubnetId")]})
    is_public = properties.get("ConnectivityType", "public") == "public"
    if is_public and await _address(properties) is None:
        raise HandlerFailed(f"The allocation ID '{properties.get('AllocationId')}' does not exist", "NotFound")
    request = {key: properties[key] for key in HONOURED - {"Tags"} if key in properties}
    request["TagSpecifications"] = tags.ec2_specifications("natgateway", properties)
    gateway_id = (await call("ec2", "CreateNatGateway", request))["NatGateway"]["NatGatewayId"]
    if is_public:  # MiniStack leaves it out.
        await call("ec2", "AssociateAddress", {"AllocationId": properties["AllocationId"]})
    return gateway_id, {"NatGatewayId": gateway_id}


async def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    await tags.update_ec2(physical_id, old, new)
    return physical_id, {"NatGatewayId": physical_id}


async def delete(physical_id: str, properties: Properties) -> None:
    try:
        await call("ec2", "DeleteNatGateway", {"NatGatewayId": physical_id})
    except HandlerFailed as error:
        if error.code != "NotFound":
            raise
    address = await _address(properties)
    if address is not None and "AssociationId" in address:
        await call("ec2", "DisassociateAddress", {"AssociationId": address["AssociationId"]})


async def _address(properties: Properties) -> dict[str, Any] | None:
    """The gateway's Elastic IP address."""
    addresses = (await call("ec2", "DescribeAddresses", {}))["Addresses"]
    return next((each for each in addresses if each["AllocationId"] == properties.get("AllocationId")), None)


def register(registry: Registry) -> None:
    registry.register("AWS::EC2::NatGateway", Handlers(create=create, update=update, delete=delete))
