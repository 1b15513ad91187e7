"""What the templates need against what the account may have: the quotas that a first release in a new account meets.

Counted are the resources of the templates that are not there yet, what the account has already, and AWS's quota: the
one that applies, or the default. Fargate counts what runs at the worst moment of a release: old and new tasks of all
services, at their least scale and at their most, and the migration; Spot has a quota of its own. Other environments'
tasks are not seen: each environment has an account of its own.
"""

from __future__ import annotations

import math
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
    most: Callable[[Templates], Counts] | None = None
    """What is needed once everything that scales has scaled out, where that is more."""
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


SPOT = "FARGATE_SPOT"


def _fargate_vcpus(provider: str, capacity: str) -> Callable[[Templates], Counts]:
    """vCPUs on a capacity provider while every service is rolled over at once (200 %), and of the migration.

    `capacity`: how many tasks a service that scales has, `MinCapacity` or `MaxCapacity` of its scalable target.
    """

    def count(templates: Templates) -> Counts:
        size = {
            logical_id: int(resource["Properties"]["Cpu"]) / 1024
            for template in templates
            for logical_id, resource in template.get("Resources", {}).items()
            if resource["Type"] == "AWS::ECS::TaskDefinition"
        }
        scaled = {
            _text(resource["Properties"]["ResourceId"]).rpartition("/")[2]: int(resource["Properties"][capacity])
            for resource in _resources(templates)
            if resource["Type"] == "AWS::ApplicationAutoScaling::ScalableTarget"
        }
        used, total = set(), 0.0
        for resource in _resources(templates):
            if resource["Type"] == "AWS::ECS::Service":
                properties = resource["Properties"]
                definition = properties["TaskDefinition"].get("Ref", "")
                used.add(definition)
                strategy = properties.get("CapacityProviderStrategy", [{"CapacityProvider": "FARGATE"}])
                if provider not in [each["CapacityProvider"] for each in strategy]:
                    continue
                tasks = scaled.get(properties.get("ServiceName", ""), int(properties.get("DesiredCount", 1)))
                percent = properties.get("DeploymentConfiguration", {}).get("MaximumPercent", 200)
                total += size.get(definition, 0) * tasks * int(percent) / 100
        # What no service runs is a one-off task, and runs on demand.
        oneoff = sum(vcpus for definition, vcpus in size.items() if definition not in used)
        return {"": total + (oneoff if provider != SPOT else 0)}

    return count


def _text(value: Any) -> str:
    """The end of a text that may be joined from references."""
    return str(value["Fn::Join"][1][-1]) if isinstance(value, Mapping) and "Fn::Join" in value else str(value)


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
        needed=_fargate_vcpus("FARGATE", "MinCapacity"),
        most=_fargate_vcpus("FARGATE", "MaxCapacity"),
        there=lambda _aws: {},
        is_kept=False,
    ),
    Quota(
        name="Fargate Spot vCPUs",
        service_code="fargate",
        code="L-36FBB829",
        needed=_fargate_vcpus(SPOT, "MinCapacity"),
        most=_fargate_vcpus(SPOT, "MaxCapacity"),
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
    most: float
    """The same once everything that scales has scaled out."""
    limit: float
    service_code: str
    code: str

    @property
    def is_met_at_most(self) -> bool:
        """Whether the quota allows it even then."""
        return self.most <= self.limit

    def increase(self, value: float) -> str:
        """The command that asks AWS for more."""
        return (
            f"aws service-quotas request-service-quota-increase --service-code {self.service_code} "
            f"--quota-code {self.code} --desired-value {math.ceil(value)}"
        )

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
    own = quota.needed(deployed) if quota.is_kept else {}

    def total(needed: Counts) -> float:
        totals = [there.get(place, 0) - own.get(place, 0) + needed.get(place, 0) for place in {*there, *needed}]
        return max(totals, default=0)

    needed = total(quota.needed(templates))
    return Demand(
        name=quota.name,
        total=needed,
        most=needed if quota.most is None else total(quota.most(templates)),
        limit=limit,
        service_code=quota.service_code,
        code=quota.code,
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
