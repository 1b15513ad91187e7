"""Load balancers: CreateLoadBalancer and the other actions on them.

https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateLoadBalancer.html
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from alva.region.elb import describing
from alva.region.elb.attributes import (
    LOAD_BALANCER_ATTRIBUTES,
    LOAD_BALANCER_ATTRIBUTES_WITHOUT_EFFECT,
    LOAD_BALANCER_DEFAULTS,
    check_attributes,
)
from alva.region.elb.calls.support import Json, attributes_of, check_name, page, tags_of
from alva.region.elb.records import LoadBalancer, Subnet
from alva.region.elb.refusals import Invalid, NotHonoured
from alva.region.elb.store import Store
from alva.region.network.records import VpcRecords

MOST_LOAD_BALANCERS = 50
"""AWS's default quota in a Region.
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html"""


def create_load_balancer(store: Store, free_dns_name: Callable[[], str], records: VpcRecords, request: Json) -> Json:
    """CreateLoadBalancer. It returns an existing load balancer with the same name and settings."""
    name = request["Name"]
    if (kind := request.get("Type") or "application") != "application":
        raise NotHonoured(f"a load balancer of type {kind}")
    _check_ip_address_type(request)
    for member in ("CustomerOwnedIpv4Pool", "EnablePrefixForIpv6SourceNat", "IpamPools"):
        if request.get(member):
            raise NotHonoured(member)
    check_name(name, "The load balancer")
    if name.startswith("internal-"):
        raise Invalid(f"The load balancer name '{name}' cannot begin with 'internal-'")
    subnets, vpc_id = _subnets(records, request)
    scheme = request.get("Scheme") or "internet-facing"
    if scheme == "internet-facing" and not records.has_internet_gateway(vpc_id):
        raise Invalid(f"VPC {vpc_id} has no internet gateway", "InvalidSubnet")
    wanted = LoadBalancer(
        arn=store.new_arn("loadbalancer", "app", name),
        dns_name=free_dns_name(),
        scheme=scheme,
        vpc_id=vpc_id,
        subnets=subnets,
        security_groups=_security_groups(records, request.get("SecurityGroups") or (), vpc_id),
        created_at=time.time(),
        attributes=dict(LOAD_BALANCER_DEFAULTS),
        tags=tags_of(request),
    )
    existing = next((each for each in store.load_balancers.values() if each.name == name), None)
    if existing is None:
        if len(store.load_balancers) >= MOST_LOAD_BALANCERS:
            raise Invalid("The maximum number of load balancers has been reached", "TooManyLoadBalancers")
        store.load_balancers[wanted.arn] = wanted
    elif _settings(existing) != _settings(wanted):
        raise Invalid(
            f"A load balancer with the same name '{name}' exists, but with different settings",
            "DuplicateLoadBalancerName",
        )
    return {"LoadBalancers": [describing.load_balancer(existing or wanted)]}


def describe_load_balancers(store: Store, request: Json) -> Json:
    """DescribeLoadBalancers: all, or by ARNs or names."""
    arns, names = request.get("LoadBalancerArns") or [], request.get("Names") or []
    if arns and names:
        raise Invalid("Load balancer names and load balancer ARNs cannot be specified at the same time")
    found = list(store.load_balancers.values())
    if arns:
        found = [store.load_balancer(arn) for arn in arns]
    if names:
        for name in names:
            check_name(name, "The load balancer")
        by_name = {each.name: each for each in found}
        missing = [name for name in names if name not in by_name]
        if missing:
            raise Invalid(f"Load balancers '[{', '.join(missing)}]' not found", "LoadBalancerNotFound")
        found = [by_name[name] for name in names]
    return page("LoadBalancers", found, request, lambda each: each.arn, describing.load_balancer)


def delete_load_balancer(store: Store, request: Json) -> Json:
    """DeleteLoadBalancer, with its listeners. As on AWS, one that does not exist is no error."""
    arn = request["LoadBalancerArn"]
    balancer = store.load_balancers.get(arn)
    if balancer and balancer.attributes["deletion_protection.enabled"] == "true":
        raise Invalid(
            f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled", "OperationNotPermitted"
        )
    store.load_balancers.pop(arn, None)
    return {}


def describe_load_balancer_attributes(store: Store, request: Json) -> Json:
    """DescribeLoadBalancerAttributes."""
    return {"Attributes": describing.pairs(store.load_balancer(request["LoadBalancerArn"]).attributes)}


def modify_load_balancer_attributes(store: Store, request: Json) -> Json:
    """ModifyLoadBalancerAttributes: the other attributes keep their values."""
    balancer = store.load_balancer(request["LoadBalancerArn"])
    given = attributes_of(request)
    check_attributes(given, LOAD_BALANCER_ATTRIBUTES, LOAD_BALANCER_ATTRIBUTES_WITHOUT_EFFECT)
    store.load_balancers[balancer.arn] = replace(balancer, attributes={**balancer.attributes, **given})
    return describe_load_balancer_attributes(store, request)


def set_subnets(store: Store, records: VpcRecords, request: Json) -> Json:
    """SetSubnets: the new subnets replace the old ones."""
    balancer = store.load_balancer(request["LoadBalancerArn"])
    _check_ip_address_type(request)
    subnets, vpc_id = _subnets(records, request)
    if vpc_id != balancer.vpc_id:
        raise Invalid(f"The subnets must be in the VPC of the load balancer, {balancer.vpc_id}", "InvalidSubnet")
    changed = replace(balancer, subnets=subnets)
    store.load_balancers[balancer.arn] = changed
    return {"AvailabilityZones": describing.availability_zones(changed), "IpAddressType": "ipv4"}


def set_security_groups(store: Store, records: VpcRecords, request: Json) -> Json:
    """SetSecurityGroups: the new security groups replace the old ones."""
    balancer = store.load_balancer(request["LoadBalancerArn"])
    if not request["SecurityGroups"]:
        raise Invalid("At least one security group must be specified", "InvalidConfigurationRequest")
    groups = _security_groups(records, request["SecurityGroups"], balancer.vpc_id)
    store.load_balancers[balancer.arn] = replace(balancer, security_groups=groups)
    return {"SecurityGroupIds": list(groups)}


def set_ip_address_type(store: Store, request: Json) -> Json:
    """SetIpAddressType: only IPv4."""
    store.load_balancer(request["LoadBalancerArn"])
    _check_ip_address_type(request)
    return {"IpAddressType": "ipv4"}


def _settings(balancer: LoadBalancer) -> tuple[object, ...]:
    return (balancer.scheme, set(balancer.subnets), set(balancer.security_groups), dict(balancer.tags))


def _check_ip_address_type(request: Mapping[str, Any]) -> None:
    if (kind := request.get("IpAddressType") or "ipv4") != "ipv4":
        raise NotHonoured(f"a load balancer with IpAddressType {kind}")


def _subnets(records: VpcRecords, request: Mapping[str, Any]) -> tuple[tuple[Subnet, ...], str]:
    """The subnets of a request and their VPC: at least two, each in another zone, all in one VPC."""
    mappings = request.get("SubnetMappings") or []
    ids = list(request.get("Subnets") or [])
    if ids and mappings:
        raise Invalid("You can specify either subnets or subnet mappings, but not both")
    for mapping in mappings:
        if other := next((key for key in mapping if key != "SubnetId" and mapping[key]), None):
            raise NotHonoured(f"SubnetMappings with {other}")
        ids.append(mapping.get("SubnetId") or "")
    found = []
    for subnet_id in ids:
        record = records.subnets.get(subnet_id)
        if record is None:
            raise Invalid(f"The subnet ID '{subnet_id}' does not exist", "SubnetNotFound")
        found.append((Subnet(subnet_id, str(record["AvailabilityZone"])), str(record["VpcId"])))
    vpcs = {vpc_id for _, vpc_id in found}
    if len(vpcs) > 1:
        raise Invalid("All subnets must belong to the same VPC", "InvalidSubnet")
    zones = [subnet.zone for subnet, _ in found]
    if len(set(zones)) < len(zones) and len(set(ids)) == len(ids) and len(set(zones)) > 1:
        raise Invalid(
            "A load balancer cannot be attached to multiple subnets in the same Availability Zone",
            "InvalidConfigurationRequest",
        )
    if len(set(zones)) < 2:
        raise Invalid("At least two subnets in two different Availability Zones must be specified")
    if len(set(ids)) < len(ids):
        raise Invalid("A subnet can be specified only once")
    return tuple(subnet for subnet, _ in found), vpcs.pop()


def _security_groups(records: VpcRecords, ids: Iterable[str], vpc_id: str) -> tuple[str, ...]:
    """The security groups of a request, by default the VPC's default group."""
    listed = tuple(dict.fromkeys(ids))
    if any(group_id not in records.security_groups for group_id in listed):
        raise Invalid("One or more security groups are invalid", "InvalidConfigurationRequest")
    default = records.default_group(vpc_id)
    return listed or ((default,) if default else ())
