"""What the templates need against what the account may have: the quotas that a first release in a new account meets.

Counted are the resources of the templates that are not there yet, what the account has already, and AWS's quota: the
one that applies, or the default. Fargate counts what runs at the worst moment of a release: old and new tasks of all
services, and the migration. Other environments' tasks are not seen: each environment has an account of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alva.aws import Aws, error_code, explained, pages
from alva.errors import AlvaError

Templates = Sequence[Mapping[str, Any]]
Counts = Mapping[str, float]
"""Place ("" for the region, or an availability zone) -> how many."""


class NoQuotas(AlvaError):
    """There is no Service Quotas to ask: not a partition or a region that has it."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """One quota, and how to count towards it."""

    name: str
    service_code: str
    code: str
    """https://docs.aws.amazon.com/general/latest/gr/aws-service-information.html"""
    needed: Callable[[Templates], Counts]
    there: Callable[[Aws], Counts]
    is_kept: bool = True
    """Whether what stands in deployed templates is part of what is there."""


def _of_type(kind: str) -> Callable[[Templates], Counts]:
    return lambda templates: {"": sum(1 for each in _resources(templates) if each["Type"] == kind)}


def _resources(templates: Templates) -> list[Mapping[str, Any]]:
    return [resource for template in templates for resource in template.get("Resources", {}).values()]


def _nat_gateways(templates: Templates) -> Counts:
    """By the zone of the subnet that the template puts each in; `?` where it does not say."""
    counts: Counter[str] = Counter()
    for template in templates:
        resources = template.get("Resources", {})
        for resource in resources.values():
            if resource["Type"] == "AWS::EC2::NatGateway":
                subnet = resources.get(resource["Properties"].get("SubnetId", {}).get("Ref", ""), {})
                zone = subnet.get("Properties", {}).get("AvailabilityZone")
                counts[zone if isinstance(zone, str) else "?"] += 1
    return counts


def _fargate_vcpus(templates: Templates) -> Counts:
    """vCPUs of all tasks while every service is rolled over at once (200 %), and of the migration."""
    size = {
        logical_id: int(resource["Properties"]["Cpu"]) / 1024
        for template in templates
        for logical_id, resource in template.get("Resources", {}).items()
        if resource["Type"] == "AWS::ECS::TaskDefinition"
    }
    used, total = set(), 0.0
    for resource in _resources(templates):
        if resource["Type"] == "AWS::ECS::Service":
            properties = resource["Properties"]
            definition = properties["TaskDefinition"].get("Ref", "")
            percent = properties.get("DeploymentConfiguration", {}).get("MaximumPercent", 200)
            total += size.get(definition, 0) * int(properties.get("DesiredCount", 1)) * int(percent) / 100
            used.add(definition)
    return {"": total + sum(vcpus for definition, vcpus in size.items() if definition not in used)}


def _vpcs(aws: Aws) -> Counts:
    return {"": len(list(pages(aws.ec2, "describe_vpcs", "Vpcs")))}


def _internet_gateways(aws: Aws) -> Counts:
    return {"": len(list(pages(aws.ec2, "describe_internet_gateways", "InternetGateways")))}


def _addresses(aws: Aws) -> Counts:
    return {"": len(aws.ec2.describe_addresses()["Addresses"])}


def _zones_of_nat_gateways(aws: Aws) -> Counts:
    gateways = list(pages(aws.ec2, "describe_nat_gateways", "NatGateways"))
    subnets = [each["SubnetId"] for each in gateways if each["State"] in ("pending", "available")]
    if not subnets:
        return {}
    found = pages(aws.ec2, "describe_subnets", "Subnets", SubnetIds=sorted(set(subnets)))
    zones = {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in found}
    return Counter(zones[subnet] for subnet in subnets)


QUOTAS = (
    Quota(
        name="Fargate vCPUs",
        service_code="fargate",
        code="L-3032A538",
        needed=_fargate_vcpus,
        there=lambda _aws: {},
        is_kept=False,
    ),
    Quota(name="VPCs", service_code="vpc", code="L-F678F1CE", needed=_of_type("AWS::EC2::VPC"), there=_vpcs),
    Quota(
        name="internet gateways",
        service_code="vpc",
        code="L-A4707A72",
        needed=_of_type("AWS::EC2::InternetGateway"),
        there=_internet_gateways,
    ),
    Quota(
        name="elastic IP addresses",
        service_code="ec2",
        code="L-0263D0A3",
        needed=_of_type("AWS::EC2::EIP"),
        there=_addresses,
    ),
    Quota(
        name="NAT gateways in one zone",
        service_code="vpc",
        code="L-FE5A380F",
        needed=_nat_gateways,
        there=_zones_of_nat_gateways,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Demand:
    """One quota against what a release would bring it to, where that is the most."""

    name: str
    total: float
    """What there will be, everything of the account counted."""
    limit: float
    service_code: str
    code: str

    @property
    def is_met(self) -> bool:
        """Whether the quota allows it."""
        return self.total <= self.limit

    def __str__(self) -> str:
        return f"{self.name} {self.total:g} of {self.limit:g}"


def demands(aws: Aws, templates: Templates, deployed: Templates) -> list[Demand]:
    """What each quota would be brought to by `templates`, of which `deployed` is there already.

    Raises NoQuotas where there is no Service Quotas, AlvaError for any other refusal.
    """
    return [_demand(aws, quota, templates, deployed) for quota in QUOTAS]


def _demand(aws: Aws, quota: Quota, templates: Templates, deployed: Templates) -> Demand:
    limit = _limit(aws, quota)
    with explained(f"count the {quota.name} of the account"):
        there = quota.there(aws)
    needed, own = quota.needed(templates), quota.needed(deployed) if quota.is_kept else {}
    totals = [there.get(place, 0) - own.get(place, 0) + needed.get(place, 0) for place in {*there, *needed}]
    return Demand(
        name=quota.name, total=max(totals, default=0), limit=limit, service_code=quota.service_code, code=quota.code
    )


def _limit(aws: Aws, quota: Quota) -> float:
    """The value that applies to the account, or AWS's default where none was ever applied."""
    quotas = aws.client("service-quotas")
    asked = {"ServiceCode": quota.service_code, "QuotaCode": quota.code}
    with explained(f"look at the quota for {quota.name}"):
        try:
            return float(quotas.get_service_quota(**asked)["Quota"]["Value"])
        except Exception as error:
            code = error_code(error)
            if code == "NoSuchResourceException":
                return float(quotas.get_aws_default_service_quota(**asked)["Quota"]["Value"])
            # An answer that is none of Service Quotas': botocore has but the HTTP status to go by.
            if code.isdigit() or code == "UnknownOperationException":
                raise NoQuotas("cannot ask for quotas: there is no Service Quotas here") from error
            raise
