"""AWS::EC2::EIP. Honours Domain and Tags; refuses the other properties (an address pool, an instance)."""

from __future__ import annotations

from typing import Any

from alva.region.cloudformation import tags
from alva.region.cloudformation.handler_failure import HandlerFailed, call
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry

HONOURED = {"Domain", "Tags"}


async def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    if unknown := set(properties) - HONOURED:
        raise HandlerFailed(
            f"the local region does not honour {', '.join(sorted(unknown))} of AWS::EC2::EIP", "InvalidRequest"
        )
    request = {"Domain": "vpc", "TagSpecifications": tags.ec2_specifications("elastic-ip", properties)}
    return _provisioned(await call("ec2", "AllocateAddress", request))


async def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    address = await _address(physical_id)
    if address is None:
        raise HandlerFailed(f"The address '{physical_id}' does not exist", "NotFound")
    await tags.update_ec2(address["AllocationId"], old, new)
    return _provisioned(address)


async def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    address = await _address(physical_id)
    if address is None:
        return
    if "AssociationId" in address:  # MiniStack would release the address.
        raise HandlerFailed(
            "You do not have permission to access the specified resource. (Service: Ec2, Status Code: 400, Error Code: "
            "AuthFailure)"
        )
    await call("ec2", "ReleaseAddress", {"AllocationId": address["AllocationId"]})


async def _address(public_ip: str) -> dict[str, Any] | None:
    addresses = (await call("ec2", "DescribeAddresses", {}))["Addresses"]
    return next((each for each in addresses if each["PublicIp"] == public_ip), None)


def _provisioned(address: dict[str, Any]) -> Provisioned:
    # Ref is the address; the allocation is an attribute (resource reference, "Return values").
    return address["PublicIp"], {key: address[key] for key in ("AllocationId", "PublicIp")}


def register(registry: Registry) -> None:
    registry.register(
        "AWS::EC2::EIP",
        Handlers(create=create, update=update, delete=delete),
    )
