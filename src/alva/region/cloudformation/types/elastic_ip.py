"""AWS::EC2::EIP. Honours Domain and Tags; refuses the other properties (an address pool, an instance)."""

from __future__ import annotations

from ministack.services import ec2
from ministack.services.cloudformation import provisioners

from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry

HONOURED = {"Domain", "Tags"}


def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    if unknown := set(properties) - HONOURED:
        raise HandlerFailed(
            f"the local region does not honour {', '.join(sorted(unknown))} of AWS::EC2::EIP", "InvalidRequest"
        )
    before = set(ec2._addresses)
    ec2._allocate_address({"Domain": ["vpc"]})
    (allocation_id,) = set(ec2._addresses) - before
    provisioners._ec2_apply_tags(allocation_id, properties)
    public_ip = ec2._addresses[allocation_id]["PublicIp"]
    # Ref is the address; the allocation is an attribute (resource reference, "Return values").
    return public_ip, {"AllocationId": allocation_id, "PublicIp": public_ip}


def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    allocation_id = _allocation(physical_id)
    if allocation_id is None:
        raise HandlerFailed(f"The address '{physical_id}' does not exist", "NotFound")
    provisioners._ec2_apply_tags(allocation_id, new, old)
    return physical_id, {"AllocationId": allocation_id, "PublicIp": physical_id}


def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    allocation_id = _allocation(physical_id)
    if allocation_id is None:
        return
    for gateway in ec2._nat_gateways.values():
        if gateway["AllocationId"] == allocation_id and gateway["State"] != "deleted":
            raise HandlerFailed(
                f"You do not have permission to access the specified resource: {physical_id} is in use by "
                f"{gateway['NatGatewayId']} (Error Code: AuthFailure)"
            )
    ec2._release_address({"AllocationId": [allocation_id]})


def _allocation(public_ip: str) -> str | None:
    return next((key for key, address in ec2._addresses.items() if address["PublicIp"] == public_ip), None)


def register(registry: Registry) -> None:
    registry.register(
        "AWS::EC2::EIP",
        Handlers(create=create, update=update, delete=delete, replacing_properties=("Domain",)),
    )
