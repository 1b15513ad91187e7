"""The template rules: no finding in this repository's templates, and a finding for each kind of mistake."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lib.config.environments import PRODUCTION, STAGING, Environment
from lib.config.settings import Domain, WorkingHours

from alva.checks.assembly import Assembly
from alva.checks.dockerfiles import last_stage
from alva.checks.routing import probes
from alva.checks.template_rules import RULES, check
from alva.errors import AlvaError

REPOSITORY = Path(__file__).parents[2]
Edit = Callable[[dict[str, Any]], None]


def assembly_of(synthesis: Any) -> Assembly:
    templates = {stack["name"]: _template(synthesis, stack["name"]) for stack in synthesis.manifest["stacks"]}
    return Assembly(synthesis.manifest, templates)


def _template(synthesis: Any, name: str) -> dict[str, Any]:
    return synthesis.template(name.removeprefix(f"{synthesis.environment.prefix}-"))  # type: ignore[no-any-return]


def broken(synthesis: Any, part: str, edit: Edit) -> Assembly:
    """The synthesised environment after `edit` changed one stack's resources."""
    assembly = assembly_of(synthesis)
    templates = copy.deepcopy(dict(assembly.templates))
    edit(templates[f"alva-staging-{part}"]["Resources"])
    return Assembly(assembly.manifest, templates)


def found(assembly: Assembly, repository: Path = REPOSITORY, *, for_aws: bool = False) -> dict[str, list[str]]:
    """Return the findings of every rule that has any."""
    return {
        rule: [str(finding) for finding in findings]
        for rule, findings in check(assembly, repository, for_aws=for_aws).items()
        if findings
    }


def logical_id(resources: dict[str, Any], start: str, resource_type: str) -> str:
    (name,) = [
        name for name, each in resources.items() if name.startswith(start) and each["Type"] == f"AWS::{resource_type}"
    ]
    return name


@pytest.mark.parametrize(
    "environment",
    [
        STAGING,
        PRODUCTION,
        STAGING.with_settings(domain=Domain(name="example.com", hosted_zone_id="Z0123456789ABC")),
        STAGING.with_settings(load_balancer__admin_allowed_cidrs=("203.0.113.0/24",)),
        STAGING.with_settings(network__nat="instance"),
        STAGING.with_settings(working_hours=WorkingHours(start_hour=8, stop_hour=20)),
    ],
    ids=["staging", "production", "domain", "allowlist", "nat-instance", "working-hours"],
)
def test_own_templates_break_no_rule(environment: Environment, synthesise: Callable[[Environment], Any]) -> None:
    assert found(assembly_of(synthesise(environment))) == {}


READY_FOR_AWS = STAGING.with_settings(
    pipeline__repository="octo/alva",
    pipeline__owner_id=123456,
    pipeline__repository_id=456789,
    monitoring__alarm_email="ops@example.com",
    mail_from="Alva <mail@example.com>",
)


def test_aws_is_refused_while_required_settings_are_missing(synthesise: Callable[[Environment], Any]) -> None:
    unset = found(assembly_of(synthesise(STAGING)), for_aws=True)
    assert [said.split(": ")[1] for said in unset.pop("unset-settings")] == [
        "pipeline.repository",
        "pipeline.owner_id",
        "pipeline.repository_id",
        "monitoring.alarm_email",
        "mail_from",
    ]
    assert unset == {}
    assert found(assembly_of(synthesise(READY_FOR_AWS)), for_aws=True) == {}
    sandbox = READY_FOR_AWS.with_settings(mail_from="Acme <mail@resend.dev>")
    (said,) = found(assembly_of(synthesise(sandbox)), for_aws=True)["unset-settings"]
    assert "from resend.dev, mails reach only the owner of the Resend account" in said


def _accent(resources: dict[str, Any]) -> None:
    resources["Topic"]["Properties"]["DisplayName"] = "Caf\u00e9"


def _same_priority(resources: dict[str, Any]) -> None:
    rule = resources[logical_id(resources, "Admin", "ElasticLoadBalancingV2::ListenerRule")]
    rule["Properties"]["Priority"] = 100


def _admin_below_web(resources: dict[str, Any]) -> None:
    rule = resources[logical_id(resources, "Admin", "ElasticLoadBalancingV2::ListenerRule")]
    rule["Properties"]["Priority"] = 500


def _no_bare_path(resources: dict[str, Any]) -> None:
    rule = resources[logical_id(resources, "Api", "ElasticLoadBalancingV2::ListenerRule")]
    rule["Properties"]["Conditions"][0]["PathPatternConfig"]["Values"] = ["/api/*"]


def _health_with_prefix(resources: dict[str, Any]) -> None:
    resources[logical_id(resources, "Api", "ElasticLoadBalancingV2::TargetGroup")]["Properties"]["HealthCheckPath"] = (
        "/api/health"
    )


def _other_target_port(resources: dict[str, Any]) -> None:
    (balancer,) = resources[logical_id(resources, "Api", "ECS::Service")]["Properties"]["LoadBalancers"]
    balancer["ContainerPort"] = 8080


def _other_environment_port(resources: dict[str, Any]) -> None:
    definition = resources[logical_id(resources, "Web", "ECS::TaskDefinition")]["Properties"]
    for pair in definition["ContainerDefinitions"][0]["Environment"]:
        if pair["Name"] == "PORT":
            pair["Value"] = "8000"


def _without_ingress(resources: dict[str, Any]) -> None:
    del resources[next(name for name in resources if name.startswith("EcsFromAlb"))]


def _ten_tasks(resources: dict[str, Any]) -> None:
    for start in ("Api", "Auth"):
        resources[logical_id(resources, start, "ECS::Service")]["Properties"]["DesiredCount"] = 10


def _punctuation(resources: dict[str, Any]) -> None:
    resources["Database"]["Properties"]["GenerateSecretString"]["ExcludePunctuation"] = False


def _short_password(resources: dict[str, Any]) -> None:
    resources["Database"]["Properties"]["GenerateSecretString"]["PasswordLength"] = 12


def _eighth_secret(resources: dict[str, Any]) -> None:
    resources["Forgotten"] = {"Type": "AWS::SecretsManager::Secret", "Properties": {"Name": "alva-staging-forgotten"}}


def _no_right_to_read(resources: dict[str, Any]) -> None:
    role = resources[logical_id(resources, "AuthTaskRolesExecution", "IAM::Role")]["Properties"]
    (policy,) = role["Policies"]
    policy["PolicyDocument"]["Statement"] = [
        each for each in policy["PolicyDocument"]["Statement"] if each["Action"] != ["secretsmanager:GetSecretValue"]
    ]


def _database_without_ingress(resources: dict[str, Any]) -> None:
    del resources["RdsFromEcs"]


def _tasks_alone(resources: dict[str, Any]) -> None:
    del resources[next(name for name in resources if name.startswith("EcsFromEcs"))]


def _no_way_out(resources: dict[str, Any]) -> None:
    for name in [name for name, each in resources.items() if "NatGatewayId" in each.get("Properties", {})]:
        del resources[name]


def _open_443(resources: dict[str, Any]) -> None:
    resources["AlbSecurityGroup"]["Properties"]["SecurityGroupIngress"].append(
        {"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "CidrIp": "0.0.0.0/0"}
    )


def _open_database(resources: dict[str, Any]) -> None:
    resources["RdsFromEcs"]["Properties"] = {
        "GroupId": resources["RdsFromEcs"]["Properties"]["GroupId"],
        "IpProtocol": "tcp",
        "FromPort": 5432,
        "ToPort": 5432,
        "CidrIp": "0.0.0.0/0",
    }


def _listen_on_8080(resources: dict[str, Any]) -> None:
    resources["Other"] = copy.deepcopy(resources["HttpListener"])
    resources["Other"]["Properties"]["Port"] = 8080


def _latest(resources: dict[str, Any]) -> None:
    definition = resources[logical_id(resources, "Web", "ECS::TaskDefinition")]["Properties"]
    definition["ContainerDefinitions"][0]["Image"] = "alva-web:latest"


def _kept_for_ever(resources: dict[str, Any]) -> None:
    del resources[logical_id(resources, "Web", "Logs::LogGroup")]["Properties"]["RetentionInDays"]


def _foreign_log_group(resources: dict[str, Any]) -> None:
    definition = resources[logical_id(resources, "Web", "ECS::TaskDefinition")]["Properties"]
    definition["ContainerDefinitions"][0]["LogConfiguration"]["Options"]["awslogs-group"] = "/ecs/web"


def _at_once(resources: dict[str, Any]) -> None:
    del resources[logical_id(resources, "Web", "ECS::Service")]["DependsOn"]


BREAKAGES: list[tuple[str, str, Edit, str]] = [
    ("listener-priorities", "services", _same_priority, "priority 100 is that of"),
    ("path-coverage", "services", _admin_below_web, "/admin reaches"),
    ("path-coverage", "services", _no_bare_path, "/api reaches"),
    ("health-path", "services", _health_with_prefix, "uses /api/health, the service serves /health"),
    ("port-agreement", "services", _other_target_port, "the service's load balancer says [8080]"),
    ("port-agreement", "services", _other_environment_port, "PORT in the container's environment says [8000]"),
    ("port-agreement", "network", _without_ingress, "admits nothing from the load balancer on port 3000"),
    ("connection-budget", "services", _ten_tasks, "262 connections at most are opened, db.t3.micro allows 73"),
    ("password-alphabet", "secrets", _punctuation, "may contain"),
    ("password-alphabet", "secrets", _short_password, "has 12 characters"),
    ("secrets-consumed", "secrets", _eighth_secret, "Forgotten: no container reads it"),
    ("secrets-readable", "services", _no_right_to_read, "COOKIE_SECRET of auth: the execution role cannot read"),
    ("open-ports", "network", _open_443, "port 443 is open, but nothing listens on it"),
    ("open-ports", "network", _open_database, "ports 5432 to 5432 are public"),
    ("open-ports", "alb", _listen_on_8080, "listens on port 8080, which no security group opens"),
    ("needed-paths", "network", _without_ingress, "alb cannot reach web on port 3000, needed for its target group"),
    (
        "needed-paths",
        "network",
        _database_without_ingress,
        "api cannot reach database on port 5432, needed for its DATABASE_URL",
    ),
    ("needed-paths", "network", _tasks_alone, "web cannot reach api on port 3001, needed for its API_INTERNAL_URL"),
    ("needed-paths", "network", _no_way_out, "auth cannot reach internet on port 443, needed for its image"),
    ("images-by-digest", "services", _latest, "web runs alva-web:latest"),
    ("log-retention", "services", _kept_for_ever, "has no retention"),
    ("log-retention", "services", _foreign_log_group, "web logs to /ecs/web, which no stack creates"),
    ("service-after-rule", "services", _at_once, "does not depend on the rule"),
    ("ascii-templates", "monitoring", _accent, "Resources/Topic/Properties/DisplayName"),
]


@pytest.mark.parametrize(
    ("rule", "part", "edit", "message"), BREAKAGES, ids=[f"{rule}-{edit.__name__}" for rule, _, edit, _ in BREAKAGES]
)
def test_rule_finds_its_mistake(rule: str, part: str, edit: Edit, message: str, staging: Any) -> None:
    findings = found(broken(staging, part, edit))
    assert message in " ".join(findings.get(rule, []))


def test_every_rule_is_shown_to_find_something() -> None:
    shown = {rule for rule, *_ in BREAKAGES}
    assert set(RULES) - shown == {"exposed-ports", "stack-order", "unset-settings", "writable-tmp"}, (
        "which have their own tests"
    )


def test_stack_before_its_imports_is_found(staging: Any) -> None:
    assembly = assembly_of(staging)
    stacks = assembly.manifest["stacks"]
    backwards = Assembly({**assembly.manifest, "stacks": stacks[::-1]}, assembly.templates)
    assert "depends on alva-staging-network, which does not come before it" in " ".join(found(backwards)["stack-order"])


def test_dependency_that_the_manifest_does_not_name_is_found(staging: Any) -> None:
    assembly = assembly_of(staging)
    stacks = [{**stack, "depends_on": []} for stack in assembly.manifest["stacks"]]
    alone = Assembly({**assembly.manifest, "stacks": stacks}, assembly.templates)
    assert "imports from alva-staging-network" in " ".join(found(alone)["stack-order"])


def test_dockerfile_that_exposes_another_port_is_found(staging: Any, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "apps", tmp_path / "apps", ignore=shutil.ignore_patterns("__pycache__"))
    dockerfile = tmp_path / "apps" / "web" / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text().replace("EXPOSE 3000", "EXPOSE 8000"))
    findings = found(assembly_of(staging), tmp_path)
    assert findings == {
        "exposed-ports": ["exposed-ports: web: apps/web/Dockerfile exposes 8000; the task's environment has PORT=3000"]
    }


def test_dockerfile_whose_user_could_not_write_to_tmp_is_found(staging: Any, tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "apps", tmp_path / "apps", ignore=shutil.ignore_patterns("__pycache__"))
    dockerfile = tmp_path / "apps" / "web" / "Dockerfile"
    written = dockerfile.read_text()
    dockerfile.write_text(written.replace("VOLUME /tmp\n", ""))
    assert found(assembly_of(staging), tmp_path) == {
        "writable-tmp": [
            "writable-tmp: web: user 10001:10001 cannot write to /tmp: apps/web/Dockerfile has no VOLUME /tmp"
        ]
    }
    for good in (
        written.replace("VOLUME /tmp", 'VOLUME ["/data", "/tmp"]'),
        written.replace("VOLUME /tmp\n", "").replace("USER 10001:10001", "USER 0:0"),
    ):
        dockerfile.write_text(good)
        assert found(assembly_of(staging), tmp_path) == {}


def test_images_that_are_built_elsewhere_break_no_rule(staging: Any, tmp_path: Path) -> None:
    """A service may have no Dockerfile, or one without its sources and ports."""
    assert found(assembly_of(staging), tmp_path) == {}
    (tmp_path / "apps" / "web").mkdir(parents=True)
    (tmp_path / "apps" / "web" / "Dockerfile").write_text(
        "FROM node:24-slim AS build\nRUN x\nFROM node:24-slim\nCOPY --from=build /x /x\n"
    )
    assert found(assembly_of(staging), tmp_path) == {}


def test_unknown_intrinsic_function_is_an_error(staging: Any) -> None:
    def conditional(resources: dict[str, Any]) -> None:
        resources["Database"]["Properties"]["Name"] = {"Fn::If": ["A", "b", "c"]}

    with pytest.raises(AlvaError, match="Fn::If"):
        check(broken(staging, "secrets", conditional), REPOSITORY)


def test_import_of_a_missing_export_is_an_error(staging: Any) -> None:
    def elsewhere(resources: dict[str, Any]) -> None:
        resources["SubnetGroup"]["Properties"]["SubnetIds"] = [{"Fn::ImportValue": "other-stack:Subnet"}]

    with pytest.raises(AlvaError, match="other-stack:Subnet"):
        check(broken(staging, "database", elsewhere), REPOSITORY)


def test_folder_without_templates_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(AlvaError) as raised:
        Assembly.read(tmp_path)
    assert raised.value.next_step == "./alva synth"


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("/admin/*", ["/admin", "/admin/", "/admin/x", "/admin/x/y"]),
        ("/*", ["/", "/x", "/x/y"]),
        ("/api", ["/api"]),
    ],
)
def test_pattern_is_tested_with_likely_paths(pattern: str, paths: list[str]) -> None:
    assert probes(pattern) == paths


def test_ports_of_the_last_stage_count(tmp_path: Path) -> None:
    dockerfile = tmp_path / "Dockerfile"
    dockerfile.write_text(
        "FROM a AS unused\nCOPY secret /s\nEXPOSE 1\nFROM a AS build\nCOPY source /s\n"
        "FROM b\n# EXPOSE 2\nCOPY --from=build /x /x\nCOPY --from=example.com/image /y /y\n"
        "COPY --chown=1:1 one \\\n  two /app/\nEXPOSE 3000/tcp $PORT \\\n  3001 53/udp\n"
    )
    assert last_stage(dockerfile).ports == (3000, 3001)
