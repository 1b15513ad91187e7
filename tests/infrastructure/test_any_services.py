"""Any number of services, with and without a port. All resources of a service follow from its entry."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lib.config.environments import PRODUCTION, STAGING, Environment
from lib.config.errors import SettingError
from lib.config.service import SERVICES_PER_STACK, Service
from lib.config.services import SERVICES

from alva.checks.assembly import Assembly
from alva.checks.cost import Prices, bill
from alva.checks.template_rules import check

from .test_environments import over_the_limits

FIRST_FREE_PORT = max(service.port or 0 for service in SERVICES) + 1


def extra(number: int, stack: int = 1) -> Service:
    """A service with every setting."""
    name = f"more-{number}"
    return Service(
        name=name,
        port=FIRST_FREE_PORT + number,
        paths=(f"/{name}", f"/{name}/*"),
        # Before web's rule, which matches every path. An allowlist needs two rules.
        priority=110 + 2 * number,
        path_prefix=f"/{name}",
        host_label=f"{name}-{{}}",
        environment={"API_INTERNAL_URL": "{internal_url[api]}"},
        allowlisted=True,
        stack=stack,
    )


WORKER = Service(
    name="mailer",
    environment={"REDIS_URL": "{redis_url}", "API_INTERNAL_URL": "{internal_url[api]}"},
    secrets={"REDIS_PASSWORD": SERVICES[1].secrets["REDIS_PASSWORD"]},
)


def with_services(environment: Environment, *services: Service) -> Environment:
    return replace(environment, services=(*SERVICES, *services))


def forty(environment: Environment) -> Environment:
    """Forty services in two stacks, one of them a worker."""
    first = SERVICES_PER_STACK - len(SERVICES) - 1
    more = [extra(number, stack=1 if number < first else 2) for number in range(39 - len(SERVICES))]
    return with_services(environment, WORKER, *more)


def broken_rules(synthesis: Any, tmp_path: Path) -> list[str]:
    """Return the findings of the template rules, with Dockerfiles that match the entries."""
    for service in synthesis.environment.services:
        folder = tmp_path / "apps" / service.name
        folder.mkdir(parents=True)
        (folder / "app.py").write_text(f'PATH = "{service.health_path}"\n')
        expose = f"EXPOSE {service.port}\n" if service.port else ""
        (folder / "Dockerfile").write_text(f"FROM base\nCOPY apps/{service.name} /app\nVOLUME /tmp\n{expose}")
    manifest = synthesis.manifest
    prefix = f"{synthesis.environment.prefix}-"
    templates = {stack["name"]: synthesis.template(stack["name"].removeprefix(prefix)) for stack in manifest["stacks"]}
    assembly = Assembly(manifest, templates)
    assert bill(assembly, Prices.read()), "every type of resource has a price"
    return [str(finding) for findings in check(assembly, tmp_path).values() for finding in findings]


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param(STAGING, id="staging"),
        pytest.param(PRODUCTION, id="production", marks=pytest.mark.nightly),
    ],
)
def test_forty_services_are_within_cloudformations_limits_and_break_no_rule(
    environment: Environment, synthesise: Callable[[Environment], Any], tmp_path: Path
) -> None:
    many = synthesise(forty(environment))
    assert len(many.manifest["services"]) == 40
    assert over_the_limits(many) == []
    assert broken_rules(many, tmp_path) == []
    assert [stack["name"] for stack in many.manifest["stacks"] if stack["phase"] == "services"] == [
        f"{environment.prefix}-services",
        f"{environment.prefix}-services-2",
    ]
    for policy in many.resources("cicd", "IAM::ManagedPolicy"):
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
        assert len(json.dumps(policy.properties["PolicyDocument"], separators=(",", ":"))) < 6144


def test_full_stack_of_services_is_refused_with_the_number_of_the_next() -> None:
    with pytest.raises(SettingError, match="expected: 2: a stack takes 25 services"):
        with_services(STAGING, *(extra(number) for number in range(SERVICES_PER_STACK)))


def test_worker_has_tasks_and_no_target_group(synthesise: Callable[[Environment], Any], tmp_path: Path) -> None:
    with_worker = synthesise(with_services(STAGING, WORKER))
    assert broken_rules(with_worker, tmp_path) == []
    (entry,) = [each for each in with_worker.manifest["services"] if each["name"] == "mailer"]
    assert (entry["port"], entry["paths"], entry["host"]) == (None, [], None)
    service = with_worker.one("services", "ECS::Service", ServiceName="alva-mailer")
    assert not {"LoadBalancers", "ServiceRegistries", "HealthCheckGracePeriodSeconds"} & set(service)
    container = with_worker.containers("services", "alva-mailer")["mailer"]
    assert not {"PortMappings", "HealthCheck"} & set(container)
    assert not {"PORT", "PATH_PREFIX"} & {each["Name"] for each in container["Environment"]}
    groups = with_worker.resources("services", "ElasticLoadBalancingV2::TargetGroup")
    assert len(groups) == len(SERVICES)
    (alarm,) = [
        each.properties
        for each in with_worker.resources("services", "CloudWatch::Alarm")
        if each.properties["AlarmName"].startswith("alva-staging-mailer-")
    ]
    assert (alarm["MetricName"], alarm["Statistic"], alarm["TreatMissingData"]) == (
        "CPUUtilization",
        "SampleCount",
        "breaching",
    )


def test_one_more_service_is_one_entry_and_does_not_change_the_others(
    staging: Any, synthesise: Callable[[Environment], Any], tmp_path: Path
) -> None:
    larger = synthesise(with_services(STAGING, extra(0)))
    assert broken_rules(larger, tmp_path) == []
    before, after = staging.template("services")["Resources"], larger.template("services")["Resources"]
    assert {name: after.get(name) for name in before} == before
    assert all(name.startswith("More0") for name in set(after) - set(before))
    assert larger.one("registry", "ECR::Repository", RepositoryName="alva-more-0")
    assert "HealthCheck" not in larger.containers("services", "alva-more-0")["more-0"], "its image may have no command"


@pytest.mark.parametrize(
    ("setting", "given"),
    [
        ("port", {"port": 80, "paths": ("/x",), "priority": 1, "host_label": "x-{}"}),
        ("paths", {"port": 3000, "priority": 1, "host_label": "x-{}"}),
        ("paths", {"paths": ("/x",)}),
        ("host_label", {"host_label": "x-{}"}),
        ("has_pages", {"has_pages": True}),
        ("stack", {"stack": 0}),
    ],
)
def test_incomplete_entry_of_a_worker_is_an_error_that_names_the_setting(setting: str, given: dict[str, Any]) -> None:
    with pytest.raises(SettingError) as refused:
        Service(name="x1", **given)
    assert refused.value.setting == f"services.x1.{setting}"
