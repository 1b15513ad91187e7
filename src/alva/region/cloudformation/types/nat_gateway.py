"""AWS::EC2::NatGateway. A record only: a route to it lets tasks reach the stand-ins for the internet (`network/`)."""

from __future__ import annotations

from ministack.services import ec2
from ministack.services.cloudformation import provisioners

from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry

HONOURED = {"SubnetId", "AllocationId", "ConnectivityType", "Tags"}


def create(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    if unknown := set(properties) - HONOURED:
        raise HandlerFailed(
            f"the local region does not honour {', '.join(sorted(unknown))} of AWS::EC2::NatGateway", "InvalidRequest"
        )
    subnet_id, allocation_id = properties.get("SubnetId"), properties.get("AllocationId")
    if subnet_id not in ec2._subnets:
        raise HandlerFailed(f"The subnet ID '{subnet_id}' does not exist", "NotFound")
    connectivity = properties.get("ConnectivityType", "public")
    if connectivity == "public" and allocation_id not in ec2._addresses:
        raise HandlerFailed(f"The allocation ID '{allocation_id}' does not exist", "NotFound")
    before = set(ec2._nat_gateways)
    ec2._create_nat_gateway(
        {"SubnetId": [subnet_id], "AllocationId": [allocation_id or ""], "ConnectivityType": [connectivity]}
    )
    (gateway_id,) = set(ec2._nat_gateways) - before
    provisioners._ec2_apply_tags(gateway_id, properties)
    return gateway_id, {"NatGatewayId": gateway_id}


def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    provisioners._ec2_apply_tags(physical_id, new, old)
    return physical_id, {"NatGatewayId": physical_id}


def delete(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    if physical_id in ec2._nat_gateways:
        ec2._delete_nat_gateway({"NatGatewayId": [physical_id]})


def register(registry: Registry) -> None:
    registry.register(
        "AWS::EC2::NatGateway",
        Handlers(
            create=create,
            update=update,
            delete=delete,
            replacing_properties=("SubnetId", "AllocationId", "ConnectivityType"),
        ),
    )
