"""An invalid setting raises an error that names it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from lib.config.environments import PRODUCTION, STAGING
from lib.config.errors import SettingError
from lib.config.secrets import DatabaseUrl, SecretKey
from lib.config.service import check_services
from lib.config.services import SERVICES
from lib.config.settings import Domain, Pipeline, WorkingHours

WRONG: list[tuple[str, Callable[[], object]]] = [
    ("name", lambda: replace(STAGING, name="Staging_1")),
    ("region", lambda: replace(STAGING, region="us-east")),
    ("network", lambda: replace(STAGING, region="eu-central-1")),
    ("network.cidr_block", lambda: STAGING.with_settings(network__cidr_block="10.0.0.0/33")),
    ("network.cidr_block", lambda: STAGING.with_settings(network__cidr_block="10.0.0.0/8")),
    ("network.public_subnets", lambda: STAGING.with_settings(network__cidr_block="10.9.0.0/16")),
    (
        "network.private_subnets",
        lambda: STAGING.with_settings(network__private_subnets=STAGING.network.public_subnets),
    ),
    (
        "network.private_subnets",
        lambda: STAGING.with_settings(network__private_subnets=STAGING.network.private_subnets[:1]),
    ),
    (
        "network.public_subnets",
        lambda: STAGING.with_settings(network__public_subnets=STAGING.network.public_subnets[::-1]),
    ),
    ("network.nat", lambda: STAGING.with_settings(network__nat="none")),
    ("database.instance_class", lambda: STAGING.with_settings(database__instance_class="db.t3.nano")),
    ("database.storage_gib", lambda: STAGING.with_settings(database__storage_gib=10)),
    ("database.storage_type", lambda: STAGING.with_settings(database__storage_type="io9")),
    ("database.backup_retention_days", lambda: STAGING.with_settings(database__backup_retention_days=0)),
    ("database.snapshot", lambda: STAGING.with_settings(database__snapshot="no such name")),
    ("cache.node_type", lambda: STAGING.with_settings(cache__node_type="cache.t3.tiny")),
    ("cache.replicas", lambda: STAGING.with_settings(cache__replicas=6)),
    ("cache.snapshot_retention_days", lambda: STAGING.with_settings(cache__snapshot_retention_days=36)),
    ("domain.name", lambda: Domain(name="Example.com", hosted_zone_id="Z0123456789ABC")),
    ("domain.hosted_zone_id", lambda: Domain(name="example.com")),
    ("load_balancer.certificate_arn", lambda: STAGING.with_settings(load_balancer__certificate_arn="certificate")),
    ("load_balancer.idle_timeout_seconds", lambda: STAGING.with_settings(load_balancer__idle_timeout_seconds=0)),
    (
        "load_balancer.admin_allowed_cidrs",
        lambda: STAGING.with_settings(load_balancer__admin_allowed_cidrs=("office",)),
    ),
    (
        "load_balancer.admin_allowed_cidrs",
        lambda: STAGING.with_settings(load_balancer__admin_allowed_cidrs=("192.0.2.0/24",) * 4),
    ),
    ("tasks.desired_count", lambda: STAGING.with_settings(tasks__desired_count=0)),
    ("tasks.max_count", lambda: STAGING.with_settings(tasks__desired_count=3)),
    ("tasks.log_level", lambda: STAGING.with_settings(tasks__log_level="loud")),
    ("tasks.log_retention_days", lambda: STAGING.with_settings(tasks__log_retention_days=31)),
    ("tasks.stop_timeout_seconds", lambda: STAGING.with_settings(tasks__stop_timeout_seconds=121)),
    ("tasks.grace_period_seconds", lambda: STAGING.with_settings(tasks__grace_period_seconds=301)),
    ("tasks.deregistration_delay_seconds", lambda: STAGING.with_settings(tasks__deregistration_delay_seconds=-1)),
    ("tasks.health_interval_seconds", lambda: STAGING.with_settings(tasks__health_interval_seconds=4)),
    ("tasks.health_timeout_seconds", lambda: STAGING.with_settings(tasks__health_timeout_seconds=5)),
    ("tasks.circuit_breaker_failures", lambda: STAGING.with_settings(tasks__circuit_breaker_failures=0)),
    ("tasks.sizes.api.cpu_units", lambda: STAGING.with_settings(tasks__sizes={"api": (300, 1024)})),
    ("tasks.sizes.api.memory_mib", lambda: STAGING.with_settings(tasks__sizes={"api": (256, 4096)})),
    ("tasks.sizes", lambda: STAGING.with_settings(tasks__sizes={"worker": (256, 512)})),
    ("monitoring.alarm_email", lambda: STAGING.with_settings(monitoring__alarm_email="ops")),
    ("monitoring.cpu_percent", lambda: STAGING.with_settings(monitoring__cpu_percent=100)),
    ("monitoring.monthly_budget_usd", lambda: STAGING.with_settings(monitoring__monthly_budget_usd=0)),
    ("monitoring.latency_seconds", lambda: STAGING.with_settings(monitoring__latency_seconds=0)),
    ("mail_from", lambda: STAGING.with_settings(mail_from="Caf\u00e9 <mail@example.com>")),
    ("mail_from", lambda: STAGING.with_settings(mail_from="Alva")),
    ("pipeline.repository", lambda: Pipeline(repository="alva")),
    ("pipeline.repository", lambda: Pipeline(repository="octo@123456/alva@456789")),
    ("pipeline.owner_id", lambda: Pipeline(owner_id=0)),
    ("pipeline.repository_id", lambda: Pipeline(repository_id=-1)),
    ("pipeline.branch", lambda: Pipeline(branch="*")),
    ("pipeline.oidc_provider_arn", lambda: Pipeline(oidc_provider_arn="arn:aws:iam::1:role/x")),
    ("working_hours.stop_hour", lambda: WorkingHours(start_hour=8, stop_hour=8)),
    ("working_hours.start_hour", lambda: WorkingHours(start_hour=0)),
    ("working_hours.time_zone", lambda: WorkingHours(time_zone="Mars/Olympus")),
    ("working_hours", lambda: PRODUCTION.with_settings(working_hours=WorkingHours())),
    ("tasks.colour", lambda: STAGING.with_settings(tasks__colour="blue")),
    ("colour", lambda: STAGING.with_settings(colour="blue")),
    ("services.api.port", lambda: replace(SERVICES[1], port=80)),
    ("services.api.cpu_units", lambda: replace(SERVICES[1], cpu_units=500)),
    ("services.api.memory_mib", lambda: replace(SERVICES[1], memory_mib=512)),
    ("services.Api.name", lambda: replace(SERVICES[1], name="Api")),
    ("services.api.paths", lambda: replace(SERVICES[1], paths=())),
    ("services.api.paths", lambda: replace(SERVICES[1], paths=("api",))),
    ("services.api.paths", lambda: replace(SERVICES[1], paths=tuple(f"/{n}" for n in range(6)))),
    ("services.api.priority", lambda: replace(SERVICES[1], priority=0)),
    ("services.api.path_prefix", lambda: replace(SERVICES[1], path_prefix="/api/")),
    ("services.api.health_path", lambda: replace(SERVICES[1], health_path="health")),
    ("services.api.health_codes", lambda: replace(SERVICES[1], health_codes="200-499")),
    ("services.api.health_codes", lambda: replace(SERVICES[1], health_codes="399-200")),
    ("services.api.health_codes", lambda: replace(SERVICES[1], health_codes="")),
    ("services.api.environment.X", lambda: replace(SERVICES[1], environment={"X": "{nothing}"})),
    ("services.api.secrets.X", lambda: replace(SERVICES[1], secrets={"X": SecretKey(secret="nothing")})),
    (
        "services.api.secrets",
        lambda: replace(SERVICES[1], environment={"X": "1"}, secrets={"X": SecretKey(secret="database")}),
    ),
    ("services.web.database_connections", lambda: replace(SERVICES[0], secrets={"DATABASE_URL": DatabaseUrl()})),
    ("services.api.secrets.X", lambda: replace(SERVICES[1], secrets={"X": DatabaseUrl(query="?sslmode=require")})),
    ("services.api.database_connections", lambda: replace(SERVICES[1], database_connections=0)),
    ("services.web.database_connections", lambda: replace(SERVICES[0], database_connections=1)),
    ("services.copy.port", lambda: check_services([*SERVICES, replace(SERVICES[1], name="copy")])),
    (
        "services.copy.priority",
        lambda: check_services([*SERVICES, replace(SERVICES[1], name="copy", port=3009)]),
    ),
    ("services.api.name", lambda: check_services([*SERVICES, SERVICES[1]])),
]


@pytest.mark.parametrize(("setting", "make"), WRONG, ids=[f"{n}-{setting}" for n, (setting, _) in enumerate(WRONG)])
def test_invalid_setting_is_named_at_its_construction(setting: str, make: Callable[[], object]) -> None:
    with pytest.raises(SettingError) as raised:
        make()
    assert raised.value.setting == setting
    assert str(raised.value).startswith("cannot use ")
    assert setting in str(raised.value)
    assert "expected:" in str(raised.value)


def test_settings_are_changed_without_touching_the_original() -> None:
    changed = STAGING.with_settings(tasks__arm64=True, database__instance_class="db.t4g.micro")
    assert (changed.tasks.arm64, changed.database.instance_class) == (True, "db.t4g.micro")
    assert (STAGING.tasks.arm64, STAGING.database.instance_class) == (False, "db.t3.micro")


def test_single_address_is_an_allowlist_of_one_block() -> None:
    """The load balancer's API takes CIDR blocks only."""
    settings = STAGING.with_settings(load_balancer__admin_allowed_cidrs=("203.0.113.7", "192.0.2.0/24"))
    assert settings.load_balancer.admin_allowed_cidrs == ("203.0.113.7/32", "192.0.2.0/24")


def test_runner_has_the_architecture_of_the_images() -> None:
    arm64 = STAGING.with_settings(tasks__arm64=True)
    assert (STAGING.architecture, STAGING.runner) == ("X86_64", "ubuntu-24.04")
    assert (arm64.architecture, arm64.runner) == ("ARM64", "ubuntu-24.04-arm")


@pytest.mark.parametrize("codes", ["200", "204", "200,302", "200-399", "200-299,308"])
def test_any_success_or_redirection_can_mean_healthy(codes: str) -> None:
    assert replace(SERVICES[1], health_codes=codes).health_codes == codes
