"""Network interfaces of tasks: the subnet, the address, and the network namespace of the task's processes."""

from __future__ import annotations

import functools
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from alva.errors import SubnetFull
from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.ecs.errors import TaskStartError, invalid_parameter
from alva.region.ecs.model import Task
from alva.region.network import Interface, Namespace, NetworkFailed
from alva.region.region import Region


@dataclass(frozen=True)
class Subnet:
    """The members of EC2's record that ECS needs."""

    id: str
    cidr_block: str
    availability_zone: str
    vpc_id: str


async def describe_subnets(control_plane: ControlPlane, subnet_ids: Sequence[str]) -> list[Subnet]:
    """The subnets, in the order of the ids. Raises InvalidParameterException, as ECS does, when one does not exist."""
    try:
        answer = await control_plane.call("ec2", "DescribeSubnets", SubnetIds=subnet_ids)
    except ServiceError as error:
        raise invalid_parameter(
            f"Error retrieving subnet information for {list(subnet_ids)}: {error.message}"
        ) from error
    found = {
        each["SubnetId"]: Subnet(each["SubnetId"], each["CidrBlock"], each["AvailabilityZone"], each["VpcId"])
        for each in answer["Subnets"]
    }
    missing = [subnet_id for subnet_id in subnet_ids if subnet_id not in found]
    if missing:
        raise invalid_parameter(
            f"Error retrieving subnet information for {missing}: The subnet ID '{missing[0]}' does not exist"
        )
    return [found[subnet_id] for subnet_id in subnet_ids]


async def check_security_groups(control_plane: ControlPlane, group_ids: Sequence[str]) -> None:
    """Raise InvalidParameterException, as ECS does, when a security group does not exist."""
    if not group_ids:
        return
    try:
        answer = await control_plane.call("ec2", "DescribeSecurityGroups", GroupIds=group_ids)
    except ServiceError as error:
        raise invalid_parameter(f"Error retrieving security group information: {error.message}") from error
    found = {each["GroupId"] for each in answer["SecurityGroups"]}
    for group_id in group_ids:
        if group_id not in found:
            raise invalid_parameter(
                f"Error retrieving security group information: The security group '{group_id}' does not exist"
            )


async def attach_interface(
    control_plane: ControlPlane, region: Region, task: Task, neighbours: Iterable[Task]
) -> Namespace | None:
    """Attach a network interface in the subnet with the fewest of the task's neighbours (this spreads tasks over
    zones).

    Returns its network namespace, if the network has namespaces. Raises TaskStartError when a subnet does not exist,
    none has a free address, or the interface cannot be created.
    """
    try:
        subnets = await describe_subnets(control_plane, task.subnets)
    except Exception as error:
        raise TaskStartError(f"ResourceInitializationError: {error}") from error
    population = Counter(other.subnet_id for other in neighbours if other.address is not None)
    for subnet in sorted(subnets, key=lambda s: population[s.id]):
        try:
            address = region.addresses.allocate(subnet.cidr_block)
        except SubnetFull:
            continue
        task.subnet_id = subnet.id
        task.availability_zone = subnet.availability_zone
        task.address = address
        region.names.publish(host_name(address, region.config.region), [address])
        task.interface_id = f"eni-{secrets.token_hex(8)[:17]}"
        task.mac_address = "0a:" + ":".join(secrets.token_hex(1) for _ in range(5))
        task.attachment_status = "ATTACHED"
        interface = Interface(
            address=address,
            subnet_id=subnet.id,
            groups=lambda: task.security_groups,
            has_public_address=task.assign_public_ip == "ENABLED",
        )
        try:
            return await region.network.attach(interface)
        except NetworkFailed as error:
            raise TaskStartError(
                f"ResourceInitializationError: network interface provisioning failed: {error}"
            ) from error
    raise TaskStartError(
        f"ResourceInitializationError: There are not enough free addresses in subnet '{task.subnets[0]}' "
        "to satisfy the requested number of instances."
    )


def detach_interface(region: Region, task: Task) -> None:
    """Remove the interface and release the task's address. As on AWS, the record keeps the address."""
    if task.address is not None and task.attachment_status == "ATTACHED":
        region.names.withdraw(host_name(task.address, region.config.region))
        region.network.detach_soon(task.address, functools.partial(region.addresses.release, task.address))
        task.attachment_status = "DELETED"


def host_name(address: str, region: str) -> str:
    """The host name of this address in the VPC's DNS.

    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/hostname-types.html
    """
    domain = "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"
    return f"ip-{address.replace('.', '-')}.{domain}"
