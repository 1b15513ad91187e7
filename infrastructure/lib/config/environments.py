"""The environments. They have the same stacks with different settings.

Each environment has its own AWS account, because the names of services and repositories do not contain the environment
(docs/decisions/one-account-per-environment.md).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType

from lib.config.errors import SettingError, require
from lib.config.service import Service, check_services
from lib.config.services import SERVICES
from lib.config.settings import (
    Cache,
    Database,
    Domain,
    LoadBalancer,
    Monitoring,
    Network,
    Pipeline,
    Subnet,
    Tasks,
    WorkingHours,
)

SANDBOX_SENDER = "Alva <onboarding@resend.dev>"
"""Resend delivers mails from resend.dev only to the owner of the Resend account."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """The settings of one environment."""

    name: str
    network: Network
    region: str = "us-east-1"
    services: tuple[Service, ...] = SERVICES
    database: Database = field(default_factory=Database)
    cache: Cache = field(default_factory=Cache)
    load_balancer: LoadBalancer = field(default_factory=LoadBalancer)
    tasks: Tasks = field(default_factory=Tasks)
    monitoring: Monitoring = field(default_factory=Monitoring)
    pipeline: Pipeline = field(default_factory=Pipeline)
    working_hours: WorkingHours | None = None
    domain: Domain | None = None
    mail_from: str = SANDBOX_SENDER
    keep_data: bool = False

    def __post_init__(self) -> None:
        require(
            "name",
            bool(re.fullmatch(r"[a-z][a-z0-9]{1,11}", self.name)),
            self.name,
            "2 to 12 lower-case letters and digits: it is part of names that AWS limits to 32",
        )
        require(
            "region",
            bool(re.fullmatch(r"[a-z]{2}(-[a-z]+)+-\d", self.region)),
            self.region,
            "an AWS region such as us-east-1",
        )
        check_services(self.services)
        for subnet in (*self.network.public_subnets, *self.network.private_subnets):
            require(
                "network",
                subnet.availability_zone.startswith(self.region),
                subnet.availability_zone,
                f"a zone of the region {self.region}",
            )
        require(
            "working_hours",
            not (self.working_hours and self.database.multi_az),
            self.working_hours,
            "none where database.multi_az is set: an environment that stops at night needs no standby",
        )
        names = {service.name for service in self.services}
        # CloudFormation's GetTemplate returns `?` for other characters, so every release would find a difference.
        require(
            "mail_from",
            self.mail_from.isascii() and "@" in self.mail_from,
            self.mail_from,
            "a sender in ASCII, such as Alva <mail@example.com>",
        )
        for name in self.tasks.sizes:
            require("tasks.sizes", name in names, name, f"one of {', '.join(sorted(names))}")

    @property
    def prefix(self) -> str:
        """`alva-staging`: the prefix of the environment's names."""
        return f"alva-{self.name}"

    @property
    def namespace(self) -> str:
        """The private DNS namespace of the services."""
        return f"{self.prefix}.local"

    @property
    def unset_settings(self) -> Mapping[str, str]:
        """The settings that a release to AWS requires and that are not set -> the value that each needs.

        The local region does not need them.
        """
        pipeline = self.pipeline
        missing = {
            "pipeline.repository": (pipeline.repository is None, "the GitHub repository that may release, OWNER/NAME"),
            "pipeline.owner_id": (
                pipeline.owner_id is None,
                "the number of the repository's owner: gh api repos/OWNER/NAME --jq .owner.id",
            ),
            "pipeline.repository_id": (
                pipeline.repository_id is None,
                "the number of the repository: gh api repos/OWNER/NAME --jq .id",
            ),
            "monitoring.alarm_email": (
                self.monitoring.alarm_email is None,
                "the address that alarms are sent to",
            ),
            "mail_from": (
                self.mail_from.rstrip(">").endswith("@resend.dev"),
                "a sender at a domain that is verified at Resend: from resend.dev, mails reach only the owner of the "
                "Resend account",
            ),
        }
        return {name: expected for name, (is_missing, expected) in missing.items() if is_missing}

    @property
    def architecture(self) -> str:
        """The CPU architecture of tasks and images, as a task definition names it."""
        return "ARM64" if self.tasks.arm64 else "X86_64"

    @property
    def runner(self) -> str:
        """The label of the GitHub runner that has the images' architecture.

        https://docs.github.com/actions/reference/runners/github-hosted-runners
        """
        return "ubuntu-24.04-arm" if self.tasks.arm64 else "ubuntu-24.04"

    @property
    def has_https(self) -> bool:
        return self.domain is not None or self.load_balancer.certificate_arn is not None

    def service(self, name: str) -> Service:
        """Return the service of this name. Raises SettingError if there is none."""
        for service in self.services:
            if service.name == name:
                return service
        raise SettingError("services", name, f"one of {', '.join(each.name for each in self.services)}")

    def host(self, service: Service) -> str | None:
        """The service's host name, where the environment has a domain."""
        if self.domain is None or service.port is None:
            return None
        return f"{service.host_label.format(self.name)}.{self.domain.name}"

    def log_group(self, name: str) -> str:
        return f"/alva/{self.name}/{name}"

    def with_settings(self, **changes: object) -> Environment:
        """Return a copy with other settings: `with_settings(tasks__arm64=True, domain=Domain(...))`.

        Raises SettingError for an unknown setting or an invalid value.
        """
        top: dict[str, object] = {}
        nested: dict[str, dict[str, object]] = {}
        for path, value in changes.items():
            group, _, setting = path.partition("__")
            if group not in {each.name for each in fields(self)}:
                raise SettingError(group, value, f"one of {', '.join(each.name for each in fields(self))}")
            if setting:
                nested.setdefault(group, {})[setting] = value
            else:
                top[group] = value
        for group, values in nested.items():
            part = getattr(self, group)
            for setting, value in values.items():
                if setting not in {each.name for each in fields(part)}:
                    raise SettingError(f"{group}.{setting}", value, f"one of {', '.join(e.name for e in fields(part))}")
            top[group] = replace(part, **values)
        return replace(self, **top)  # type: ignore[arg-type]


# A release to AWS requires `pipeline`, `monitoring.alarm_email` and `mail_from`, which have no default:
#     pipeline=Pipeline(repository="OWNER/NAME", owner_id=123456, repository_id=456789),
#     monitoring=Monitoring(alarm_email="ops@example.com"),
#     mail_from="Alva <mail@example.com>",
STAGING = Environment(
    name="staging",
    network=Network(
        cidr_block="10.0.0.0/16",
        public_subnets=(
            Subnet(cidr_block="10.0.1.0/24", availability_zone="us-east-1a"),
            Subnet(cidr_block="10.0.2.0/24", availability_zone="us-east-1b"),
        ),
        private_subnets=(
            Subnet(cidr_block="10.0.10.0/24", availability_zone="us-east-1a"),
            Subnet(cidr_block="10.0.11.0/24", availability_zone="us-east-1b"),
        ),
    ),
)

PRODUCTION = Environment(
    name="production",
    network=Network(
        cidr_block="10.1.0.0/16",
        public_subnets=(
            Subnet(cidr_block="10.1.1.0/24", availability_zone="us-east-1a"),
            Subnet(cidr_block="10.1.2.0/24", availability_zone="us-east-1b"),
        ),
        private_subnets=(
            Subnet(cidr_block="10.1.10.0/24", availability_zone="us-east-1a"),
            Subnet(cidr_block="10.1.11.0/24", availability_zone="us-east-1b"),
        ),
        nat="gateway-per-zone",
        flow_logs=True,
    ),
    database=Database(
        instance_class="db.m7g.large",
        storage_gib=100,
        storage_type="gp3",
        multi_az=True,
        backup_retention_days=30,
        deletion_protection=True,
    ),
    cache=Cache(node_type="cache.m7g.large", replicas=1, snapshot_retention_days=7),
    load_balancer=LoadBalancer(access_logs=True, deletion_protection=True, web_acl=True),
    tasks=Tasks(
        desired_count=2,
        max_count=6,
        sizes=MappingProxyType({"web": (1024, 2048), "api": (1024, 2048), "auth": (1024, 2048)}),
        container_insights=True,
        deployment_alarms=True,
        log_retention_days=365,
    ),
    monitoring=Monitoring(
        monthly_budget_usd=1500,
        cpu_percent=75,
        memory_percent=80,
        server_errors=2,
        latency_seconds=1.0,
        log_errors=2,
        connections_percent=70,
        storage_free_percent=30,
    ),
    pipeline=Pipeline(branch="production"),
    keep_data=True,
)

ENVIRONMENTS: Mapping[str, Environment] = MappingProxyType({each.name: each for each in (STAGING, PRODUCTION)})
