"""The groups of settings of an environment. Each validates its values when it is constructed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from types import MappingProxyType
from zoneinfo import available_timezones

from lib.config.errors import SettingError, require
from lib.config.service import check_size

# https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutRetentionPolicy.html
RETENTION_DAYS = (
    1,
    3,
    5,
    7,
    14,
    30,
    60,
    90,
    120,
    150,
    180,
    365,
    400,
    545,
    731,
    1096,
    1827,
    2192,
    2557,
    2922,
    3288,
    3653,
)

DATABASE_CLASSES = (
    "db.t3.micro", "db.t3.small", "db.t3.medium", "db.t3.large",
    "db.t4g.micro", "db.t4g.small", "db.t4g.medium", "db.t4g.large",
    "db.m6g.large", "db.m6g.xlarge", "db.m7g.large", "db.m7g.xlarge", "db.r6g.large", "db.r7g.large",
)  # fmt: skip
CACHE_NODE_TYPES = (
    "cache.t3.micro", "cache.t3.small", "cache.t3.medium",
    "cache.t4g.micro", "cache.t4g.small", "cache.t4g.medium",
    "cache.m6g.large", "cache.m7g.large", "cache.r6g.large", "cache.r7g.large",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Subnet:
    """One subnet. A change of its CIDR replaces the subnet, so the CIDR is a setting and is never computed."""

    cidr_block: str
    availability_zone: str


@dataclass(frozen=True, kw_only=True)
class Network:
    """The VPC. `nat` is `gateway`, `gateway-per-zone` or `instance` (cheaper, but a single point of failure)."""

    cidr_block: str
    public_subnets: tuple[Subnet, ...]
    private_subnets: tuple[Subnet, ...]
    nat: str = "gateway"
    nat_instance_type: str = "t4g.nano"
    flow_logs: bool = False

    def __post_init__(self) -> None:
        vpc = _network("network.cidr_block", self.cidr_block)
        require("network.cidr_block", 16 <= vpc.prefixlen <= 28, self.cidr_block, "a VPC between /16 and /28")
        require(
            "network.nat",
            self.nat in ("gateway", "gateway-per-zone", "instance"),
            self.nat,
            "gateway, gateway-per-zone or instance",
        )
        placed: list[IPv4Network] = []
        for kind, subnets in (("public_subnets", self.public_subnets), ("private_subnets", self.private_subnets)):
            zones = [subnet.availability_zone for subnet in subnets]
            require(
                f"network.{kind}",
                len(set(zones)) >= 2 and len(set(zones)) == len(zones),
                zones,
                "at least two, each in a different zone: the load balancer and the database require it",
            )
            for subnet in subnets:
                block = _network(f"network.{kind}", subnet.cidr_block)
                require(f"network.{kind}", block.subnet_of(vpc), subnet.cidr_block, f"inside the VPC's {vpc}")
                require(f"network.{kind}", 16 <= block.prefixlen <= 28, subnet.cidr_block, "between /16 and /28")
                for other in placed:
                    require(f"network.{kind}", not block.overlaps(other), subnet.cidr_block, f"no overlap with {other}")
                placed.append(block)
        public_zones, private_zones = (
            [subnet.availability_zone for subnet in subnets] for subnets in (self.public_subnets, self.private_subnets)
        )
        require(
            "network.public_subnets",
            public_zones == private_zones,
            public_zones,
            f"the zones of network.private_subnets in their order, {private_zones}",
        )


def _network(setting: str, value: str) -> IPv4Network:
    try:
        return IPv4Network(value)
    except ValueError as error:
        raise SettingError(setting, value, f"an IPv4 network such as 10.0.0.0/16 ({error})") from error


@dataclass(frozen=True, kw_only=True)
class Database:
    """PostgreSQL on RDS. Storage is always encrypted, because a later change would replace the instance.

    `snapshot` creates the instance from a snapshot, with the snapshot's encryption, user and databases. Do not change
    or remove it afterwards: CloudFormation would replace the instance, and without it create an empty one.
    """

    instance_class: str = "db.t3.micro"
    storage_gib: int = 20
    storage_type: str = "gp2"
    multi_az: bool = False
    backup_retention_days: int = 7
    deletion_protection: bool = False
    snapshot: str | None = None

    def __post_init__(self) -> None:
        require(
            "database.instance_class",
            self.instance_class in DATABASE_CLASSES,
            self.instance_class,
            f"one of {', '.join(DATABASE_CLASSES)}",
        )
        require("database.storage_gib", 20 <= self.storage_gib <= 16_384, self.storage_gib, "20 to 16384 GiB")
        require("database.storage_type", self.storage_type in ("gp2", "gp3"), self.storage_type, "gp2 or gp3")
        require(
            "database.backup_retention_days",
            1 <= self.backup_retention_days <= 35,
            self.backup_retention_days,
            "1 to 35 days: 0 would switch backups off",
        )
        require(
            "database.snapshot",
            self.snapshot is None or bool(re.fullmatch(r"[A-Za-z][A-Za-z0-9:-]{0,254}", self.snapshot)),
            self.snapshot,
            "the identifier of a DB snapshot",
        )


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Redis on ElastiCache: one primary and `replicas`. With at least one replica, failover is automatic."""

    node_type: str = "cache.t3.micro"
    replicas: int = 0
    snapshot_retention_days: int = 0

    def __post_init__(self) -> None:
        require(
            "cache.node_type",
            self.node_type in CACHE_NODE_TYPES,
            self.node_type,
            f"one of {', '.join(CACHE_NODE_TYPES)}",
        )
        require("cache.replicas", 0 <= self.replicas <= 5, self.replicas, "0 to 5")
        require(
            "cache.snapshot_retention_days",
            0 <= self.snapshot_retention_days <= 35,
            self.snapshot_retention_days,
            "0 (none) to 35 days",
        )


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The environment's hosts under `name`, in the hosted zone `hosted_zone_id`: `staging.`, `api-staging.`, ...

    The certificate is validated with DNS records in that zone.
    """

    name: str
    hosted_zone_id: str | None = None

    def __post_init__(self) -> None:
        require(
            "domain.name",
            bool(re.fullmatch(r"([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]{2,}", self.name)),
            self.name,
            "a domain in lower case, such as example.com",
        )
        require(
            "domain.hosted_zone_id",
            bool(re.fullmatch(r"Z[A-Z0-9]{1,31}", self.hosted_zone_id or "")),
            self.hosted_zone_id,
            "the id of the Route 53 zone of the domain, such as Z0123456789ABC",
        )


@dataclass(frozen=True, kw_only=True)
class LoadBalancer:
    """The ALB. `certificate_arn` or the environment's domain enables port 443 and the redirect from port 80."""

    certificate_arn: str | None = None
    idle_timeout_seconds: int = 60
    access_logs: bool = False
    deletion_protection: bool = False
    web_acl: bool = False
    admin_allowed_cidrs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.certificate_arn is not None:
            require(
                "load_balancer.certificate_arn",
                bool(re.fullmatch(r"arn:aws:acm:[a-z0-9-]+:\d{12}:certificate/[a-f0-9-]+", self.certificate_arn)),
                self.certificate_arn,
                "the ARN of an ACM certificate in the environment's region",
            )
        require(
            "load_balancer.idle_timeout_seconds",
            1 <= self.idle_timeout_seconds <= 4000,
            self.idle_timeout_seconds,
            "1 to 4000 seconds",
        )
        # The API accepts CIDR blocks only, so a single address is /32.
        blocks = tuple(str(_network("load_balancer.admin_allowed_cidrs", each)) for each in self.admin_allowed_cidrs)
        object.__setattr__(self, "admin_allowed_cidrs", blocks)
        # A rule has at most five condition values, and admin's paths are two of them.
        require(
            "load_balancer.admin_allowed_cidrs",
            len(self.admin_allowed_cidrs) <= 3,
            self.admin_allowed_cidrs,
            "at most 3: a listener rule takes 5 values, two of which are paths",
        )


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """Settings of all services' tasks. `sizes` overrides a service's size in `services.py`."""

    desired_count: int = 1
    max_count: int = 1
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=lambda: MappingProxyType({}))
    arm64: bool = False
    spot: bool = False
    exec_enabled: bool = False
    container_insights: bool = False
    deployment_alarms: bool = False
    log_level: str = "info"
    log_retention_days: int = 30
    stop_timeout_seconds: int = 30
    grace_period_seconds: int = 60
    deregistration_delay_seconds: int = 20
    health_interval_seconds: int = 5
    health_timeout_seconds: int = 4
    circuit_breaker_failures: int = 2

    def __post_init__(self) -> None:
        require("tasks.desired_count", self.desired_count >= 1, self.desired_count, "at least 1")
        require(
            "tasks.max_count",
            self.max_count >= self.desired_count,
            self.max_count,
            f"at least tasks.desired_count, which is {self.desired_count}",
        )
        require(
            "tasks.log_level",
            self.log_level in ("debug", "info", "warning", "error"),
            self.log_level,
            "debug, info, warning or error",
        )
        require(
            "tasks.log_retention_days",
            self.log_retention_days in RETENTION_DAYS,
            self.log_retention_days,
            f"one of {', '.join(map(str, RETENTION_DAYS))}",
        )
        require(
            "tasks.stop_timeout_seconds",
            2 <= self.stop_timeout_seconds <= 120,
            self.stop_timeout_seconds,
            "2 to 120 seconds, Fargate's limit",
        )
        # ECS accepts more, but the start period of a container's health check is at most 300 seconds.
        require(
            "tasks.grace_period_seconds",
            0 <= self.grace_period_seconds <= 300,
            self.grace_period_seconds,
            "0 to 300 seconds",
        )
        require(
            "tasks.deregistration_delay_seconds",
            0 <= self.deregistration_delay_seconds <= 3600,
            self.deregistration_delay_seconds,
            "0 to 3600 seconds",
        )
        require(
            "tasks.health_interval_seconds",
            5 <= self.health_interval_seconds <= 300,
            self.health_interval_seconds,
            "5 to 300 seconds",
        )
        require(
            "tasks.health_timeout_seconds",
            2 <= self.health_timeout_seconds < self.health_interval_seconds,
            self.health_timeout_seconds,
            "at least 2, and less than tasks.health_interval_seconds",
        )
        require(
            "tasks.circuit_breaker_failures",
            1 <= self.circuit_breaker_failures <= 200,
            self.circuit_breaker_failures,
            "1 to 200 failed tasks",
        )
        for service, (cpu_units, memory_mib) in self.sizes.items():
            check_size(f"tasks.sizes.{service}", cpu_units, memory_mib)

    @property
    def scales(self) -> bool:
        return self.max_count > self.desired_count


@dataclass(frozen=True, kw_only=True)
class WorkingHours:
    """The hours of an environment that stops at night. Tasks run from `start_hour` to `stop_hour`, Monday to Friday.

    `time_zone` is an IANA name. The database starts an hour earlier, because RDS needs some minutes.
    """

    start_hour: int = 8
    stop_hour: int = 20
    time_zone: str = "Europe/Berlin"

    def __post_init__(self) -> None:
        require("working_hours.start_hour", 1 <= self.start_hour <= 23, self.start_hour, "1 to 23")
        require(
            "working_hours.stop_hour",
            self.start_hour < self.stop_hour <= 23,
            self.stop_hour,
            f"after working_hours.start_hour, which is {self.start_hour}, and at most 23",
        )
        require(
            "working_hours.time_zone",
            self.time_zone in available_timezones(),
            self.time_zone,
            "an IANA time zone such as Europe/Berlin",
        )


@dataclass(frozen=True, kw_only=True)
class Monitoring:
    """The thresholds and the recipient of alarms. Counts are per minute. No `monthly_budget_usd` means no budget."""

    alarm_email: str | None = None
    monthly_budget_usd: int | None = 250
    cpu_percent: int = 85
    memory_percent: int = 85
    server_errors: int = 5
    latency_seconds: float = 2.0
    log_errors: int = 5
    connections_percent: int = 80
    storage_free_percent: int = 20

    def __post_init__(self) -> None:
        if self.alarm_email is not None:
            require(
                "monitoring.alarm_email",
                bool(re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", self.alarm_email)),
                self.alarm_email,
                "an e-mail address",
            )
        for name in ("cpu_percent", "memory_percent", "connections_percent", "storage_free_percent"):
            require(f"monitoring.{name}", 1 <= getattr(self, name) <= 99, getattr(self, name), "1 to 99 percent")
        require(
            "monitoring.monthly_budget_usd",
            self.monthly_budget_usd is None or self.monthly_budget_usd >= 1,
            self.monthly_budget_usd,
            "at least 1, or None for no budget",
        )
        for name in ("server_errors", "log_errors"):
            require(f"monitoring.{name}", getattr(self, name) >= 1, getattr(self, name), "at least 1")
        require("monitoring.latency_seconds", 0 < self.latency_seconds < 60, self.latency_seconds, "less than 60 s")


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """The GitHub workflows that may release: those of one branch of one repository. They use no stored key.

    `repository` (owner/name) has no default. A release to AWS requires it. `owner_id` and `repository_id` are the
    numbers that GitHub adds to a token's subject for repositories that were created, renamed or transferred since
    2026-04-23: `gh api repos/OWNER/NAME --jq '.owner.id, .id'` prints both.
    https://docs.github.com/actions/concepts/security/openid-connect
    `user` also creates `alva-cicd-user`, with the same policy, for pipelines that need access keys.
    `oidc_provider_arn` is the account's existing provider for GitHub. An account can have only one.
    """

    repository: str | None = None
    owner_id: int | None = None
    repository_id: int | None = None
    branch: str = "staging"
    oidc_provider_arn: str | None = None
    user: bool = False

    def __post_init__(self) -> None:
        require(
            "pipeline.repository",
            self.repository is None or bool(re.fullmatch(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+", self.repository)),
            self.repository,
            "owner/name, as on GitHub",
        )
        for name in ("owner_id", "repository_id"):
            number = getattr(self, name)
            require(f"pipeline.{name}", number is None or number > 0, number, "GitHub's number, such as 456789")
        # With `*`, every branch could deploy, and so could every pull request of a member.
        require(
            "pipeline.branch",
            bool(re.fullmatch(r"[A-Za-z0-9._/-]+", self.branch)),
            self.branch,
            "one branch, without wildcards",
        )
        if self.oidc_provider_arn is not None:
            require(
                "pipeline.oidc_provider_arn",
                bool(
                    re.fullmatch(
                        r"arn:aws:iam::\d{12}:oidc-provider/token\.actions\.githubusercontent\.com",
                        self.oidc_provider_arn,
                    )
                ),
                self.oidc_provider_arn,
                "the ARN of the provider token.actions.githubusercontent.com",
            )

    @property
    def subjects(self) -> tuple[str, ...]:
        """The exact subjects of tokens of the branch's workflows.

        They are the names, and the names with GitHub's numbers if both numbers are set. Without a repository it is a
        text that matches no token.
        """
        reference = f"ref:refs/heads/{self.branch}"
        if self.repository is None:
            return (f"repo:pipeline.repository-is-not-set:{reference}",)
        owner, _, name = self.repository.partition("/")
        subjects = [f"repo:{owner}/{name}:{reference}"]
        if self.owner_id is not None and self.repository_id is not None:
            subjects.append(f"repo:{owner}@{self.owner_id}/{name}@{self.repository_id}:{reference}")
        return tuple(subjects)
