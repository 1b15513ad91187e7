"""Computes the monthly cost of an environment from its templates and a dated price table.

It contains only fixed costs: traffic, requests and log lines depend on use. An unknown resource type is an error, so
that a new, expensive resource is not overlooked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any, Self

from alva.checks.assembly import Assembly, Resource
from alva.checks.services import deployed_services
from alva.errors import AlvaError


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item of the monthly cost, in USD."""

    subject: str
    what: str
    usd: float
    is_storage: bool = False
    """Whether it costs the same while nothing runs."""


@dataclass(frozen=True)
class Prices:
    """The price table src/alva/checks/prices.json, with its date `as_of`."""

    values: Mapping[str, Any]

    @classmethod
    def read(cls) -> Self:
        return cls(json.loads((files("alva.checks") / "prices.json").read_text()))

    @property
    def as_of(self) -> str:
        return str(self.values["as_of"])

    @property
    def hours(self) -> float:
        """The hours of a month in AWS's calculator."""
        return float(self.values["hours_per_month"])

    def of(self, *path: str) -> float:
        """Return the price at a path of the table. Raises AlvaError if it has none."""
        value: Any = self.values
        for key in path:
            if not isinstance(value, Mapping) or key not in value:
                raise AlvaError(
                    f"cannot price {' '.join(path)}: it is not in the price table of {self.as_of}",
                    next_step="add it to src/alva/checks/prices.json, with today's date",
                )
            value = value[key]
        return float(value)


# Free, or billed only by use.
FREE = frozenset(
    {
        "Budgets::Budget",  # the first two of an account are free
        "CertificateManager::Certificate",
        "EC2::FlowLog",
        "EC2::InternetGateway",
        "EC2::LaunchTemplate",
        "EC2::Route",
        "EC2::RouteTable",
        "EC2::SecurityGroup",
        "EC2::SecurityGroupEgress",
        "EC2::SecurityGroupIngress",
        "EC2::Subnet",
        "EC2::SubnetRouteTableAssociation",
        "EC2::VPC",
        "EC2::VPCGatewayAttachment",
        "ECR::Repository",
        "ECS::TaskDefinition",
        "ElastiCache::ParameterGroup",
        "ElastiCache::SubnetGroup",
        "ElasticLoadBalancingV2::Listener",
        "ElasticLoadBalancingV2::ListenerRule",
        "ElasticLoadBalancingV2::TargetGroup",
        "Events::Rule",
        "IAM::ManagedPolicy",
        "IAM::OIDCProvider",
        "IAM::Role",
        "IAM::User",
        "Logs::LogGroup",
        "Logs::QueryDefinition",
        "RDS::DBParameterGroup",
        "RDS::DBSubnetGroup",
        "Route53::RecordSet",
        "S3::Bucket",
        "S3::BucketPolicy",
        "SNS::Topic",
        "SNS::TopicPolicy",
        "Scheduler::Schedule",
        "SecretsManager::SecretTargetAttachment",
        "ServiceDiscovery::Service",
        "ApplicationAutoScaling::ScalableTarget",
        "ApplicationAutoScaling::ScalingPolicy",
        "WAFv2::LoggingConfiguration",
        "WAFv2::WebACLAssociation",
    }
)


def bill(assembly: Assembly, prices: Prices) -> list[Item]:
    """Return the monthly cost per resource, the most expensive first. Raises AlvaError for an unknown price."""
    estimate = _Estimate(assembly, prices)
    items = [item for resource in assembly.resources.values() for item in estimate.of(resource)]
    return sorted(items, key=lambda item: (-item.usd, item.subject, item.what))


def total(items: list[Item]) -> float:
    """Return the sum in USD."""
    return sum(item.usd for item in items)


def saved_asleep(items: list[Item], subjects: frozenset[str]) -> float:
    """Return the monthly saving in USD while the given services and databases are stopped: all but storage."""
    return sum(item.usd for item in items if item.subject in subjects and not item.is_storage)


@dataclass(frozen=True)
class _Estimate:
    assembly: Assembly
    prices: Prices

    def of(self, resource: Resource) -> Iterator[Item]:
        name = resource.type.removeprefix("AWS::")
        if name in FREE:
            return
        estimators: Mapping[str, Callable[[Resource], Iterator[Item]]] = {
            "CloudWatch::Alarm": self._alarm,
            "CloudWatch::Dashboard": self._dashboard,
            "EC2::EIP": self._address,
            "EC2::Instance": self._instance,
            "EC2::NatGateway": self._nat_gateway,
            "EC2::VPCEndpoint": self._endpoint,
            "ECS::Cluster": self._cluster,
            "ECS::Service": self._service,
            "ElastiCache::ReplicationGroup": self._cache,
            "ElasticLoadBalancingV2::LoadBalancer": self._load_balancer,
            "Logs::MetricFilter": self._metric_filter,
            "RDS::DBInstance": self._database,
            "SecretsManager::Secret": self._secret,
            "ServiceDiscovery::PrivateDnsNamespace": self._namespace,
            "WAFv2::WebACL": self._web_acl,
        }
        if name not in estimators:
            raise AlvaError(
                f"cannot price {resource}: {resource.type} is unknown", next_step="add it to src/alva/checks/cost.py"
            )
        yield from estimators[name](resource)

    def _hourly(self, *path: str) -> float:
        return self.prices.of(*path) * self.prices.hours

    def _service(self, resource: Resource) -> Iterator[Item]:
        definition = self.assembly.target(resource.properties["TaskDefinition"])
        if definition is None:
            raise AlvaError(
                f"cannot price {resource}: the templates lack its task definition",
                next_step="correct infrastructure/, then ./alva synth",
            )
        architecture = definition.properties["RuntimePlatform"]["CpuArchitecture"]
        vcpus = int(definition.properties["Cpu"]) / 1024
        gigabytes = int(definition.properties["Memory"]) / 1024
        strategy = resource.properties["CapacityProviderStrategy"]
        on_spot = all(each["CapacityProvider"] == "FARGATE_SPOT" for each in strategy)
        name = str(resource.properties["ServiceName"])
        tasks, share = self._tasks(resource, name)
        hourly = vcpus * self.prices.of("fargate", architecture, "vcpu_hour") + gigabytes * self.prices.of(
            "fargate", architecture, "gb_hour"
        )
        if on_spot:
            hourly *= self.prices.of("fargate", "spot_share")
        what = f"{tasks} x {vcpus:g} vCPU, {gigabytes:g} GB, {architecture}{', Spot' if on_spot else ''}"
        if share < 1:
            what += f", {share:.0%} of the time"
        yield Item(subject=name, what=what, usd=hourly * self.prices.hours * tasks * share)

    def _tasks(self, resource: Resource, name: str) -> tuple[int, float]:
        """Return the service's minimum number of tasks, and their share of the week."""
        for target in self.assembly.of_type("ApplicationAutoScaling::ScalableTarget"):
            if str(target.properties["ResourceId"]).endswith(f"/{name}"):
                actions = {
                    each["ScalableTargetAction"]["MinCapacity"]: _hour(each["Schedule"])
                    for each in target.properties.get("ScheduledActions", [])
                }
                return int(target.properties["MinCapacity"]), _weekly_share(actions)
        return int(resource.properties.get("DesiredCount", 1)), 1.0

    def _cluster(self, resource: Resource) -> Iterator[Item]:
        settings = {each["Name"]: each["Value"] for each in resource.properties.get("ClusterSettings", [])}
        if settings.get("containerInsights", "disabled") != "disabled":
            metrics = self.prices.of("container_insights", "metrics_per_cluster") + self.prices.of(
                "container_insights", "metrics_per_service"
            ) * len(deployed_services(self.assembly))
            usd = metrics * self.prices.of("custom_metric_month")
            yield Item(subject=str(resource), what=f"Container Insights, about {metrics:g} metrics", usd=usd)

    def _nat_gateway(self, resource: Resource) -> Iterator[Item]:
        yield Item(subject=str(resource), what="NAT gateway, without data", usd=self._hourly("nat_gateway_hour"))

    def _address(self, resource: Resource) -> Iterator[Item]:
        yield Item(subject=str(resource), what="public IPv4 address", usd=self._hourly("public_ipv4_hour"))

    def _instance(self, resource: Resource) -> Iterator[Item]:
        template = self.assembly.target(resource.properties["LaunchTemplate"]["LaunchTemplateId"])
        instance_type = (template.properties["LaunchTemplateData"] if template else resource.properties)["InstanceType"]
        yield Item(subject=str(resource), what=instance_type, usd=self._hourly("ec2_instance_hour", instance_type))
        for mapping in resource.properties.get("BlockDeviceMappings", []):
            size = mapping["Ebs"]["VolumeSize"]
            yield Item(subject=str(resource), what=f"{size} GB gp3", usd=size * self.prices.of("ebs_gp3_gb_month"))

    def _endpoint(self, resource: Resource) -> Iterator[Item]:
        if resource.properties.get("VpcEndpointType") != "Gateway":
            raise AlvaError(f"cannot price {resource}: only gateway endpoints are known, which are free")
        yield from ()

    def _load_balancer(self, resource: Resource) -> Iterator[Item]:
        subject = str(resource.properties["Name"])
        yield Item(subject=subject, what="load balancer", usd=self._hourly("load_balancer_hour"))
        yield Item(subject=subject, what="1 capacity unit", usd=self._hourly("load_balancer_capacity_unit_hour"))
        addresses = len(resource.properties["Subnets"])
        yield Item(
            subject=subject,
            what=f"{addresses} x public IPv4 address",
            usd=addresses * self._hourly("public_ipv4_hour"),
        )

    def _database(self, resource: Resource) -> Iterator[Item]:
        properties = resource.properties
        subject, copies = str(properties["DBInstanceIdentifier"]), 2 if properties.get("MultiAZ") else 1
        share = self._database_share
        what = f"{properties['DBInstanceClass']}{' Multi-AZ' if copies == 2 else ''}"
        if share < 1:
            what += f", {share:.0%} of the time"
        instance = self._hourly("rds_instance_hour", properties["DBInstanceClass"])
        yield Item(subject=subject, what=what, usd=instance * copies * share)
        size, kind = int(properties["AllocatedStorage"]), properties["StorageType"]
        storage = size * self.prices.of("rds_storage_gb_month", kind) * copies
        yield Item(subject=subject, what=f"{size} GB {kind}", usd=storage, is_storage=True)

    @cached_property
    def _database_share(self) -> float:
        actions = {
            0 if "stopDBInstance" in str(each.properties["Target"]["Arn"]) else 1: _hour(
                each.properties["ScheduleExpression"]
            )
            for each in self.assembly.of_type("Scheduler::Schedule")
        }
        return _weekly_share(actions)

    def _cache(self, resource: Resource) -> Iterator[Item]:
        nodes, node_type = resource.properties["NumCacheClusters"], resource.properties["CacheNodeType"]
        usd = nodes * self._hourly("cache_node_hour", node_type)
        yield Item(subject=str(resource.properties["ReplicationGroupId"]), what=f"{nodes} x {node_type}", usd=usd)

    def _secret(self, resource: Resource) -> Iterator[Item]:
        yield Item(subject=str(resource.properties["Name"]), what="secret", usd=self.prices.of("secret_month"))

    def _namespace(self, resource: Resource) -> Iterator[Item]:
        name = str(resource.properties["Name"])
        yield Item(subject=name, what="private hosted zone", usd=self.prices.of("hosted_zone_month"))

    def _alarm(self, resource: Resource) -> Iterator[Item]:
        yield Item(
            subject=str(resource.properties["AlarmName"]), what="alarm", usd=self.prices.of("alarm_metric_month")
        )

    def _metric_filter(self, resource: Resource) -> Iterator[Item]:
        transformations = resource.properties["MetricTransformations"]
        usd = len(transformations) * self.prices.of("custom_metric_month")
        yield Item(subject=str(resource), what="metric of a log filter", usd=usd)

    def _dashboard(self, resource: Resource) -> Iterator[Item]:
        yield Item(subject=str(resource), what="dashboard", usd=self.prices.of("dashboard_month"))

    def _web_acl(self, resource: Resource) -> Iterator[Item]:
        rules = len(resource.properties["Rules"])
        usd = self.prices.of("web_acl_month") + rules * self.prices.of("web_acl_rule_month")
        yield Item(subject=str(resource), what=f"web ACL with {rules} rules, without requests", usd=usd)


def _hour(schedule: str) -> int:
    """Return the hour of `cron(0 20 ? * MON-FRI *)`, the only supported form of a schedule."""
    found = re.fullmatch(r"cron\(0 (\d{1,2}) \? \* MON-FRI \*\)", schedule)
    if found is None:
        raise AlvaError(f"cannot price the schedule {schedule}: only one hour on Mondays to Fridays is known")
    return int(found.group(1))


def _weekly_share(actions: Mapping[int, int]) -> float:
    """Return the share of the week between start and stop on five days; `actions` are capacity -> hour, empty means
    always.
    """
    stop = actions.get(0)
    starts = [hour for capacity, hour in actions.items() if capacity > 0]
    if stop is None or not starts:
        return 1.0
    return (stop - starts[0]) * 5 / (24 * 7)
