"""Target groups and their targets.

https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Protocol

from alva.region.elb import describing, reading
from alva.region.elb.attributes import (
    TARGET_GROUP_ATTRIBUTES,
    TARGET_GROUP_ATTRIBUTES_WITHOUT_EFFECT,
    TARGET_GROUP_DEFAULTS,
    check_attributes,
)
from alva.region.elb.calls.support import Json, attributes_of, check_name, page, tags_of
from alva.region.elb.records import TargetGroup
from alva.region.elb.refusals import Invalid, NotHonoured
from alva.region.elb.store import Store
from alva.region.elb.target_health import TargetHealth
from alva.region.network.records import VpcRecords

MOST_TARGETS = 1000
"""AWS's quota of targets in a target group.
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html"""

_PRIVATE = [IPv4Network(block) for block in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16")]
"""The address ranges of targets outside the VPC.
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-target-groups.html#target-type"""


class Targets(Protocol):
    """The targets in the data plane."""

    def register(self, target_group_arn: str, address: str, port: int) -> None: ...

    def deregister(self, target_group_arn: str, address: str, port: int) -> None: ...

    def health(self, target_group_arn: str, address: str, port: int) -> TargetHealth: ...

    def targets(self, target_group_arn: str) -> list[tuple[str, int]]: ...


def create_target_group(store: Store, records: VpcRecords, request: Json) -> Json:
    """CreateTargetGroup. It returns an existing target group with the same name and settings."""
    name = request["Name"]
    check_name(name, "Target group")
    if (kind := request.get("TargetType") or "instance") != "ip":
        raise NotHonoured(f"a target group of target type {kind} (ip is honoured)")
    if not request.get("Protocol"):
        raise Invalid("A protocol must be specified")
    if request["Protocol"] not in ("HTTP", "HTTPS"):
        raise NotHonoured(f"a target group with protocol {request['Protocol']}")
    if (version := request.get("ProtocolVersion") or "HTTP1") != "HTTP1":
        raise NotHonoured(f"a target group with protocol version {version}")
    if (kind := request.get("IpAddressType") or "ipv4") != "ipv4":
        raise NotHonoured(f"a target group with IpAddressType {kind}")
    if request.get("Port") is None:
        raise Invalid("A port must be specified")
    vpc_id = request.get("VpcId") or ""
    if not vpc_id:
        raise Invalid("A VPC ID must be specified")
    if vpc_id not in records.vpcs:
        raise Invalid(f"The VPC ID '{vpc_id}' is not found")
    wanted = TargetGroup(
        arn=store.new_arn("targetgroup", name),
        port=request["Port"],
        protocol=request["Protocol"],
        vpc_id=vpc_id,
        health_check=reading.health_check(request, reading.DEFAULT_HEALTH_CHECK),
        attributes=dict(TARGET_GROUP_DEFAULTS),
        tags=tags_of(request),
    )
    existing = next((each for each in store.target_groups.values() if each.name == name), None)
    if existing is None:
        store.target_groups[wanted.arn] = wanted
    elif replace(wanted, arn=existing.arn, attributes=existing.attributes) != existing:
        raise Invalid(
            f"A target group with the same name '{name}' exists, but with different settings",
            "DuplicateTargetGroupName",
        )
    return {"TargetGroups": [_described(store, existing or wanted)]}


def describe_target_groups(store: Store, request: Json) -> Json:
    """DescribeTargetGroups: all, by load balancer, by ARNs or by names."""
    arns, names, balancer = (request.get(key) for key in ("TargetGroupArns", "Names", "LoadBalancerArn"))
    if sum(bool(each) for each in (arns, names, balancer)) > 1:
        raise Invalid("Target group ARNs, target group names and a load balancer ARN cannot be specified together")
    found = list(store.target_groups.values())
    if arns:
        found = [store.target_group(arn) for arn in arns]
    if names:
        for name in names:
            check_name(name, "Target group")
        found = [each for each in found if each.name in names]
        if len(found) < len(set(names)):
            raise Invalid("One or more target groups not found", "TargetGroupNotFound")
    if balancer:
        used = store.load_balancer(balancer).target_groups()
        found = [each for each in found if each.arn in used]
    return page("TargetGroups", found, request, lambda each: each.arn, lambda each: _described(store, each))


def modify_target_group(store: Store, request: Json) -> Json:
    """ModifyTargetGroup: the health check."""
    group = store.target_group(request["TargetGroupArn"])
    changed = replace(group, health_check=reading.health_check(request, group.health_check))
    store.target_groups[group.arn] = changed
    return {"TargetGroups": [_described(store, changed)]}


def delete_target_group(store: Store, request: Json) -> Json:
    """DeleteTargetGroup. As on AWS, one that does not exist is no error."""
    arn = request["TargetGroupArn"]
    if store.users_of(arn):
        raise Invalid(f"Target group '{arn}' is currently in use by a listener or a rule", "ResourceInUse")
    store.target_groups.pop(arn, None)
    store.targets.pop(arn, None)
    return {}


def describe_target_group_attributes(store: Store, request: Json) -> Json:
    """DescribeTargetGroupAttributes."""
    return {"Attributes": describing.pairs(store.target_group(request["TargetGroupArn"]).attributes)}


def modify_target_group_attributes(store: Store, request: Json) -> Json:
    """ModifyTargetGroupAttributes: the other attributes keep their values."""
    group = store.target_group(request["TargetGroupArn"])
    given = attributes_of(request)
    check_attributes(given, TARGET_GROUP_ATTRIBUTES, TARGET_GROUP_ATTRIBUTES_WITHOUT_EFFECT)
    store.target_groups[group.arn] = replace(group, attributes={**group.attributes, **given})
    return describe_target_group_attributes(store, request)


def register_targets(store: Store, targets: Targets, records: VpcRecords, request: Json) -> Json:
    """RegisterTargets, by address; the default port is the group's."""
    group = store.target_group(request["TargetGroupArn"])
    vpc = records.vpcs.get(group.vpc_id)
    blocks = (*_PRIVATE, IPv4Network(vpc["CidrBlock"])) if vpc else _PRIVATE
    places = _places(group, request["Targets"], permitted=blocks)
    if len({*((each.address, each.port) for each in store.targets.get(group.arn, ())), *places}) > MOST_TARGETS:
        raise Invalid(f"A target group can have at most {MOST_TARGETS} targets", "TooManyTargets")
    for address, port in places:
        targets.register(group.arn, address, port)
    return {}


def deregister_targets(store: Store, targets: Targets, request: Json) -> Json:
    """DeregisterTargets. As on AWS, a target that is not registered is no error."""
    group = store.target_group(request["TargetGroupArn"])
    for address, port in _places(group, request["Targets"]):
        targets.deregister(group.arn, address, port)
    return {}


def describe_target_health(store: Store, targets: Targets, request: Json) -> Json:
    """DescribeTargetHealth: of the request's targets, or of all."""
    group = store.target_group(request["TargetGroupArn"])
    places = _places(group, request.get("Targets") or ()) or targets.targets(group.arn)
    return {
        "TargetHealthDescriptions": [
            describing.target(address, port, group.health_check.port, targets.health(group.arn, address, port))
            for address, port in places
        ]
    }


def _described(store: Store, group: TargetGroup) -> Json:
    return describing.target_group(group, store.users_of(group.arn))


def _places(
    group: TargetGroup, given: list[Json] | tuple[()], *, permitted: Sequence[IPv4Network] | None = None
) -> list[tuple[str, int]]:
    """Address and port of each target. New targets are in a `permitted` block."""
    places = []
    for target in given:
        try:
            address = IPv4Address(target["Id"])
        except ValueError as error:
            raise Invalid(f"The IP address '{target['Id']}' is not a valid IPv4 address") from error
        if target.get("AvailabilityZone") and permitted is not None:
            raise NotHonoured("a target outside the VPC (AvailabilityZone)")
        is_outside = permitted is not None and not any(address in block for block in permitted)
        if is_outside and not address.is_loopback:
            raise Invalid(
                f"The IP address '{address}' is not within any valid CIDR of the VPC '{group.vpc_id}'", "InvalidTarget"
            )
        places.append((str(address), target.get("Port") or group.port))
    return places
