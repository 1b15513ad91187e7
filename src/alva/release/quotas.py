"""Compares the templates with the account's quotas that a first release in a new account can exceed.

The demand is the number of resources in the account plus those of the templates that do not exist yet; the quota is the
applied value or AWS's default. Fargate counts the peak of a release: old and new tasks of all services, at minimum and
at maximum scale, plus the migration; Spot has its own quota. Tasks of other environments are not counted: each
environment has its own account.
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
"""Place ("" for the region, or an availability zone) -> count."""


class NoQuotas(AlvaError):
    """Service Quotas does not exist in this partition or region."""


@dataclass(frozen=True, kw_only=True)
class Quota:
    """One quota, and how to count its demand."""

    name: str
    service_code: str
    code: str
    """https://docs.aws.amazon.com/general/latest/gr/aws-service-information.html"""
    needed: Callable[[Templates], Counts]
    there: Callable[[Aws], Counts]
    most: Callable[[Templates], Counts] | None = None
    """The demand at maximum scale, where that is more."""
    is_kept: bool = True
    """Whether the account's count includes the deployed templates' resources."""


def _of_type(kind: str) -> Callable[[Templates], Counts]:
    return lambda templates: {"": sum(1 for each in _resources(templates) if each["Type"] == kind)}


def _resources(templates: Templates) -> list[Mapping[str, Any]]:
    return [resource for template in templates for resource in template.get("Resources", {}).values()]


def _nat_gateways(templates: Templates) -> Counts:
    """Count by the zone of each template's subnet; `?` where it is unknown."""
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
    """vCPUs of a capacity provider while all services are rolled out at once (200 %), plus the migration.

    `capacity` of the scalable target is the number of tasks of a service that scales: `MinCapacity` or `MaxCapacity`.
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
        # Other task definitions are one-off tasks, which run on demand.
        oneoff = sum(vcpus for definition, vcpus in size.items() if definition not in used)
        return {"": total + (oneoff if provider != SPOT else 0)}

    return count


def _text(value: Any) -> str:
    """Return the end of a text, which may be joined from references."""
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
    """One quota with the demand of a release."""

    name: str
    total: float
    """The demand, including the account's other resources."""
    most: float
    """The demand at maximum scale."""
    limit: float
    service_code: str
    code: str

    @property
    def is_met_at_most(self) -> bool:
        """Whether the quota allows the maximum scale."""
        return self.most <= self.limit

    def increase(self, value: float) -> str:
        """Return the command that requests an increase."""
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
    """Return the demand of each quota with `templates`, of which `deployed` exists already.

    Raises NoQuotas without Service Quotas, AlvaError for any other refusal.
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
    """Return the account's applied value, or AWS's default."""
    quotas = aws.client("service-quotas")
    asked = {"ServiceCode": quota.service_code, "QuotaCode": quota.code}
    with explained(f"read the quota for {quota.name}"):
        try:
            return float(quotas.get_service_quota(**asked)["Quota"]["Value"])
        except Exception as error:
            code = error_code(error)
            if code == "NoSuchResourceException":
                return float(quotas.get_aws_default_service_quota(**asked)["Quota"]["Value"])
            # Where another server answers, botocore has only the HTTP status.
            if code.isdigit() or code == "UnknownOperationException":
                raise NoQuotas("cannot read quotas: there is no Service Quotas here") from error
            raise
