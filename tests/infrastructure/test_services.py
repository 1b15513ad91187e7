"""Cluster, migration and services: sizes, environment variables, secrets, roles, deployment."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from lib.config.environments import STAGING
from lib.config.services import SERVICES
from lib.config.settings import Domain, WorkingHours

NAMES = [service.name for service in STAGING.services]
COMMON = {"PORT", "PATH_PREFIX", "ENVIRONMENT", "LOG_LEVEL", "IMAGE_DIGEST", "VPC_CIDR", "NODE_ENV"}
FRONTEND = {"NEXT_PUBLIC_API_URL", "NEXT_PUBLIC_AUTH_URL", "API_INTERNAL_URL", "AUTH_INTERNAL_URL", "PAGE_ORIGINS"}


def variables(container: dict[str, Any]) -> dict[str, Any]:
    return {each["Name"]: each["Value"] for each in container["Environment"]}


def secrets(container: dict[str, Any]) -> dict[str, Any]:
    return {each["Name"]: each["ValueFrom"] for each in container.get("Secrets", [])}


def service(synthesis: Any, name: str) -> Any:
    (found,) = [
        each
        for each in synthesis.resources("services", "ECS::Service")
        if each.properties["ServiceName"] == f"alva-{name}"
    ]
    return found


def secret_imports(role: dict[str, Any]) -> set[str]:
    """The secrets that a role may read, by their logical id in the secrets stack."""
    found: set[str] = set()
    for policy in role.get("Policies", []):
        for statement in policy["PolicyDocument"]["Statement"]:
            if "secretsmanager:GetSecretValue" in statement["Action"]:
                found |= {each["Fn::ImportValue"].rsplit("OutputRef", 1)[1][:-8] for each in statement["Resource"]}
    return found


def execution_role(synthesis: Any, part: str, family: str) -> dict[str, Any]:
    role = synthesis.one(part, "ECS::TaskDefinition", Family=family)["ExecutionRoleArn"]["Fn::GetAtt"][0]
    (found,) = [each.properties for each in synthesis.resources(part, "IAM::Role") if each.logical_id == role]
    return found  # type: ignore[no-any-return]


def test_cluster_runs_on_fargate(staging: Any) -> None:
    cluster = staging.one("ecs", "ECS::Cluster")
    assert cluster["ClusterName"] == "alva-staging-cluster"
    assert cluster["CapacityProviders"] == ["FARGATE"]
    assert cluster["ClusterSettings"] == [{"Name": "containerInsights", "Value": "disabled"}]
    assert staging.one("ecs", "ServiceDiscovery::PrivateDnsNamespace")["Name"] == "alva-staging.local"


def test_migration_runs_the_apis_image_with_the_database_secret_only(staging: Any) -> None:
    containers = staging.containers("ecs", "alva-migrations")
    migration = containers["migrations"]
    assert list(containers) == ["migrations"]
    assert migration["Image"]["Fn::Join"][1][-2:] == ["/alva-api@", {"Ref": "MigrationsImageDigest"}]
    assert migration["Command"] == ["python", "-m", "migrations"]
    assert set(secrets(migration)) == {"PGPASSWORD"}
    assert set(variables(migration)) == COMMON - {"PORT", "PATH_PREFIX"} | {"DATABASE_URL"}
    assert secret_imports(execution_role(staging, "ecs", "alva-migrations")) == {"Database"}


@pytest.mark.parametrize("name", NAMES)
def test_task_has_half_a_cpu_and_a_gigabyte_on_linux(staging: Any, name: str) -> None:
    definition = staging.one("services", "ECS::TaskDefinition", Family=f"alva-{name}")
    assert (definition["Cpu"], definition["Memory"]) == ("512", "1024")
    assert definition["NetworkMode"] == "awsvpc"
    assert definition["RequiresCompatibilities"] == ["FARGATE"]
    assert definition["RuntimePlatform"] == {"CpuArchitecture": "X86_64", "OperatingSystemFamily": "LINUX"}


@pytest.mark.parametrize("name", NAMES)
def test_image_is_chosen_by_digest_and_nothing_is_deployed_by_default(staging: Any, name: str) -> None:
    parameter = f"{name.capitalize()}ImageDigest"
    declared = staging.template("services")["Parameters"][parameter]
    assert "Default" not in declared
    assert declared["AllowedPattern"] == "^sha256:[0-9a-f]{64}$"
    for container in staging.containers("services", f"alva-{name}").values():
        assert container["Image"]["Fn::Join"][1] == [
            {"Ref": "AWS::AccountId"},
            ".dkr.ecr.us-east-1.",
            {"Ref": "AWS::URLSuffix"},
            f"/alva-{name}@",
            {"Ref": parameter},
        ]
        assert variables(container)["IMAGE_DIGEST"] == {"Ref": parameter}


@pytest.mark.parametrize(("name", "port"), [(service.name, service.port) for service in STAGING.services])
def test_port_agrees_between_task_target_group_and_service(staging: Any, name: str, port: int) -> None:
    container = staging.containers("services", f"alva-{name}")[name]
    assert container["PortMappings"] == [{"ContainerPort": port, "Protocol": "tcp"}]
    assert variables(container)["PORT"] == str(port)
    (balancer,) = service(staging, name).properties["LoadBalancers"]
    assert (balancer["ContainerName"], balancer["ContainerPort"]) == (name, port)


def test_another_port_of_a_service_replaces_no_target_group(staging: Any, synthesise: Callable[..., Any]) -> None:
    def groups(synthesis: Any) -> list[dict[str, Any]]:
        return [each.properties for each in synthesis.resources("services", "ElasticLoadBalancingV2::TargetGroup")]

    moved = tuple(replace(each, port=each.port + 10) for each in SERVICES)
    assert groups(synthesise(replace(STAGING, services=moved))) == groups(staging)


@pytest.mark.parametrize("name", NAMES)
def test_target_is_healthy_after_seconds_not_minutes(staging: Any, name: str) -> None:
    (group,) = [
        each.properties
        for each in staging.resources("services", "ElasticLoadBalancingV2::TargetGroup")
        if each.properties["Name"] == f"alva-staging-{name}-http"
    ]
    assert group["HealthCheckPath"] == "/health"
    assert (group["HealthCheckIntervalSeconds"], group["HealthCheckTimeoutSeconds"]) == (5, 4)
    assert (group["HealthyThresholdCount"], group["UnhealthyThresholdCount"]) == (2, 2)
    assert group["Matcher"] == {"HttpCode": "200"}
    assert {each["Key"]: each["Value"] for each in group["TargetGroupAttributes"]} == {
        "deregistration_delay.timeout_seconds": "20"
    }
    assert group["TargetType"] == "ip"


@pytest.mark.parametrize("name", ["web", "admin"])
def test_frontends_have_the_expected_variables(staging: Any, name: str) -> None:
    found = variables(staging.containers("services", f"alva-{name}")[name])
    assert set(found) == COMMON | FRONTEND | ({"WEB_INTERNAL_URL"} if name == "admin" else set())
    assert (found["NEXT_PUBLIC_API_URL"], found["NEXT_PUBLIC_AUTH_URL"]) == ("/api", "/auth")
    assert found["NODE_ENV"] == "production"
    assert found["API_INTERNAL_URL"] == "http://api.alva-staging.local:3001"
    assert found["AUTH_INTERNAL_URL"] == "http://auth.alva-staging.local:3002"


def test_api_and_its_worker_have_the_expected_variables_and_secrets(staging: Any) -> None:
    containers = staging.containers("services", "alva-api")
    assert list(containers) == ["api", "worker"]
    for container in containers.values():
        assert container["Essential"] is True
        assert set(variables(container)) == COMMON | {"DATABASE_URL", "REDIS_URL", "CORS_ORIGINS"}
        assert set(secrets(container)) == {"PGPASSWORD", "REDIS_PASSWORD", "JWT_PUBLIC_KEY", "OPENAI_API_KEY"}
    assert containers["worker"]["Command"] == ["python", "-m", "api.worker"]
    assert "PortMappings" not in containers["worker"]


def test_auth_has_the_expected_variables_and_secrets(staging: Any) -> None:
    container = staging.containers("services", "alva-auth")["auth"]
    assert set(variables(container)) == COMMON | {
        "DATABASE_URL",
        "REDIS_URL",
        "CORS_ORIGINS",
        "PUBLIC_URL",
        "MAIL_FROM",
    }
    assert set(secrets(container)) == {
        "PGPASSWORD",
        "REDIS_PASSWORD",
        "JWT_PRIVATE_KEY",
        "JWT_PUBLIC_KEY",
        "JWT_SECRET",
        "COOKIE_SECRET",
        "RESEND_API_KEY",
    }


@pytest.mark.parametrize("name", ["api", "auth"])
def test_urls_contain_no_password_and_require_verified_tls(staging: Any, name: str) -> None:
    found = variables(staging.containers("services", f"alva-{name}")[name])
    database = found["DATABASE_URL"]["Fn::Join"][1]
    assert database[0] == "postgresql://alva_admin@"
    assert database[-1] == "/alva?sslmode=verify-full"
    redis = found["REDIS_URL"]["Fn::Join"][1]
    assert (redis[0], redis[-1]) == ("rediss://", "/0")
    assert "resolve:secretsmanager" not in staging.template_file("services").read_text()


@pytest.mark.parametrize("name", ["api", "auth"])
def test_passwords_are_one_key_of_the_database_secret(staging: Any, name: str) -> None:
    found = secrets(staging.containers("services", f"alva-{name}")[name])
    for variable in ("PGPASSWORD", "REDIS_PASSWORD"):
        arn, key = found[variable]["Fn::Join"][1]
        assert "RefDatabase" in arn["Fn::ImportValue"]
        assert key == ":password::"


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("web", set()),
        ("admin", set()),
        ("api", {"Database", "JwtPublicKey", "OpenaiApiKey"}),
        ("auth", {"Database", "JwtPrivateKey", "JwtPublicKey", "JwtSecret", "CookieSecret", "ResendApiKey"}),
    ],
)
def test_execution_role_reads_only_its_own_services_secrets(staging: Any, name: str, readable: set[str]) -> None:
    role = execution_role(staging, "services", f"alva-{name}")
    assert secret_imports(role) == readable
    (statement,) = [
        each for each in role["Policies"][0]["PolicyDocument"]["Statement"] if "ecr:BatchGetImage" in each["Action"]
    ]
    assert statement["Resource"]["Fn::Join"][1][-1] == f":repository/alva-{name}"
    assert "ManagedPolicyArns" not in role, "AWS's managed policy reads every repository of the account"


@pytest.mark.parametrize("name", NAMES)
def test_task_role_may_do_nothing(staging: Any, name: str) -> None:
    definition = staging.one("services", "ECS::TaskDefinition", Family=f"alva-{name}")
    task_role, execution = (definition[key]["Fn::GetAtt"][0] for key in ("TaskRoleArn", "ExecutionRoleArn"))
    assert task_role != execution
    (role,) = [each for each in staging.resources("services", "IAM::Role") if each.logical_id == task_role]
    assert "Policies" not in role.properties


@pytest.mark.parametrize("name", NAMES)
def test_container_is_hardened_and_stops_in_its_own_time(staging: Any, name: str) -> None:
    for container in staging.containers("services", f"alva-{name}").values():
        assert container["ReadonlyRootFilesystem"] is True
        assert container["LinuxParameters"] == {"InitProcessEnabled": True}
        assert container["StopTimeout"] == 30
        assert container["MountPoints"] == [{"ContainerPath": "/tmp", "ReadOnly": False, "SourceVolume": "scratch"}]  # noqa: S108
        assert container["LogConfiguration"]["LogDriver"] == "awslogs"
    main = staging.containers("services", f"alva-{name}")[name]
    assert main["HealthCheck"]["Command"] == ["CMD", "python", "-S", "-m", "common.healthcheck"]
    assert (main["HealthCheck"]["Interval"], main["HealthCheck"]["Timeout"]) == (5, 4)


@pytest.mark.parametrize("name", NAMES)
def test_rolling_update_keeps_all_tasks_and_has_a_circuit_breaker(staging: Any, name: str) -> None:
    found = service(staging, name).properties
    deployment = found["DeploymentConfiguration"]
    assert (deployment["MinimumHealthyPercent"], deployment["MaximumPercent"]) == (100, 200)
    assert deployment["DeploymentCircuitBreaker"] == {
        "Enable": True,
        "Rollback": True,
        "ThresholdConfiguration": {"Type": "COUNT", "Value": 2},
    }
    assert found["DesiredCount"] == 1
    assert found["HealthCheckGracePeriodSeconds"] == 60
    assert found["EnableExecuteCommand"] is False
    assert found["CapacityProviderStrategy"] == [{"CapacityProvider": "FARGATE", "Weight": 1}]


@pytest.mark.parametrize("name", NAMES)
def test_tasks_run_in_private_subnets_without_public_addresses(staging: Any, name: str) -> None:
    network = service(staging, name).properties["NetworkConfiguration"]["AwsvpcConfiguration"]
    assert network["AssignPublicIp"] == "DISABLED"
    assert [each["Fn::ImportValue"].split("OutputRef")[1][:-8] for each in network["Subnets"]] == [
        "PrivateSubnetA",
        "PrivateSubnetB",
    ]
    (group,) = network["SecurityGroups"]
    assert "EcsSecurityGroup" in group["Fn::ImportValue"]


@pytest.mark.parametrize("name", NAMES)
def test_service_waits_for_the_rule_of_its_target_group(staging: Any, name: str) -> None:
    found = service(staging, name)
    rules = {
        each.logical_id
        for each in staging.resources("services", "ElasticLoadBalancingV2::ListenerRule")
        if each.properties["Actions"][0]["TargetGroupArn"] == found.properties["LoadBalancers"][0]["TargetGroupArn"]
    }
    assert rules <= set(found.definition["DependsOn"])


@pytest.mark.parametrize("name", NAMES)
def test_service_is_found_by_name(staging: Any, name: str) -> None:
    discovery = staging.one("services", "ServiceDiscovery::Service", Name=name)
    assert discovery["DnsConfig"] == {"DnsRecords": [{"TTL": 10, "Type": "A"}], "RoutingPolicy": "MULTIVALUE"}
    (registry,) = service(staging, name).properties["ServiceRegistries"]
    assert registry["RegistryArn"]["Fn::GetAtt"][0].startswith(name.capitalize())


def test_log_groups_have_names_and_a_retention(staging: Any) -> None:
    names = {each.properties["LogGroupName"] for each in staging.resources("services", "Logs::LogGroup")}
    assert names == {f"/alva/staging/{name}" for name in NAMES}
    groups = [each for each in staging.all_resources() if each.type == "AWS::Logs::LogGroup"]
    assert {each.properties["RetentionInDays"] for each in groups} == {30}


def test_separate_hosts_have_absolute_public_urls_and_shared_cookies(synthesise: Callable[..., Any]) -> None:
    named = synthesise(STAGING.with_settings(domain=Domain(name="example.com", hosted_zone_id="Z0123456789ABC")))
    web = variables(named.containers("services", "alva-web")["web"])
    assert web["NEXT_PUBLIC_API_URL"] == "https://api-staging.example.com/api"
    auth = variables(named.containers("services", "alva-auth")["auth"])
    assert auth["PUBLIC_URL"] == "https://auth-staging.example.com"
    assert auth["SITE_URL"] == "https://staging.example.com"
    assert auth["COOKIE_DOMAIN"] == "example.com"
    assert auth["CORS_ORIGINS"].split(",") == [
        "https://staging.example.com",
        "https://admin-staging.example.com",
    ], "services without pages of their own call nobody from a browser"


def test_arm64_is_one_setting(synthesise: Callable[..., Any]) -> None:
    arm = synthesise(STAGING.with_settings(tasks__arm64=True))
    definitions = [each.properties for each in arm.all_resources() if each.type == "AWS::ECS::TaskDefinition"]
    assert {each["RuntimePlatform"]["CpuArchitecture"] for each in definitions} == {"ARM64"}


def test_spot_is_one_setting(synthesise: Callable[..., Any]) -> None:
    spot = synthesise(STAGING.with_settings(tasks__spot=True))
    assert spot.one("ecs", "ECS::Cluster")["CapacityProviders"] == ["FARGATE", "FARGATE_SPOT"]
    for name in NAMES:
        assert service(spot, name).properties["CapacityProviderStrategy"][0]["CapacityProvider"] == "FARGATE_SPOT"


def test_exec_grants_four_permissions_and_logs_the_sessions(synthesise: Callable[..., Any]) -> None:
    shell = synthesise(STAGING.with_settings(tasks__exec_enabled=True))
    assert service(shell, "api").properties["EnableExecuteCommand"] is True
    actions = [
        action
        for each in shell.resources("services", "IAM::Role")
        for policy in each.properties.get("Policies", [])
        for statement in policy["PolicyDocument"]["Statement"]
        for action in statement["Action"]
        if action.startswith("ssmmessages:")
    ]
    assert len(set(actions)) == 4
    assert len(actions) == 4 * len(NAMES)
    for definition in shell.resources("services", "ECS::TaskDefinition"):
        for container in definition.properties["ContainerDefinitions"]:
            assert container["ReadonlyRootFilesystem"] is False, "the agent does not start on a read-only file system"
    written = [
        statement["Resource"]["Fn::Join"][1][-1]
        for each in shell.resources("services", "IAM::Role")
        for policy in each.properties.get("Policies", [])
        for statement in policy["PolicyDocument"]["Statement"]
        if "logs:DescribeLogStreams" in statement["Action"]
    ]
    assert written == [":log-group:/alva/staging/exec:*"] * len(NAMES)
    logging = shell.one("ecs", "ECS::Cluster")["Configuration"]["ExecuteCommandConfiguration"]
    assert logging["Logging"] == "OVERRIDE"
    assert "/alva/staging/exec" in {
        each.properties["LogGroupName"] for each in shell.resources("ecs", "Logs::LogGroup")
    }


def test_container_insights_are_one_setting(synthesise: Callable[..., Any]) -> None:
    seen = synthesise(STAGING.with_settings(tasks__container_insights=True))
    assert seen.one("ecs", "ECS::Cluster")["ClusterSettings"] == [{"Name": "containerInsights", "Value": "enabled"}]


def test_a_release_does_not_reset_the_count_of_a_service_that_scales(
    staging: Any, synthesise: Callable[..., Any]
) -> None:
    assert staging.resources("services", "ApplicationAutoScaling::ScalableTarget") == []
    scaled = synthesise(STAGING.with_settings(tasks__max_count=4))
    assert "DesiredCount" not in service(scaled, "api").properties
    targets = [each.properties for each in scaled.resources("services", "ApplicationAutoScaling::ScalableTarget")]
    assert {(each["MinCapacity"], each["MaxCapacity"]) for each in targets} == {(1, 4)}
    assert len(scaled.resources("services", "ApplicationAutoScaling::ScalingPolicy")) == 2 * len(NAMES)


def test_working_hours_stop_tasks_and_database_at_night(synthesise: Callable[..., Any]) -> None:
    daily = synthesise(STAGING.with_settings(working_hours=WorkingHours(start_hour=8, stop_hour=20)))
    for target in daily.resources("services", "ApplicationAutoScaling::ScalableTarget"):
        actions = {each["ScheduledActionName"]: each for each in target.properties["ScheduledActions"]}
        assert actions["stop-at-night"]["Schedule"] == "cron(0 20 ? * MON-FRI *)"
        assert actions["stop-at-night"]["ScalableTargetAction"] == {"MinCapacity": 0, "MaxCapacity": 0}
        assert actions["start-in-the-morning"]["ScalableTargetAction"] == {"MinCapacity": 1, "MaxCapacity": 1}
        assert {each["Timezone"] for each in actions.values()} == {"Europe/Berlin"}
    schedules = {
        each.properties["Name"]: each.properties for each in daily.resources("database", "Scheduler::Schedule")
    }
    assert schedules["alva-staging-database-start"]["ScheduleExpression"] == "cron(0 7 ? * MON-FRI *)", "an hour ahead"
    assert "aws-sdk:rds:stopDBInstance" in json.dumps(schedules["alva-staging-database-stop"]["Target"]["Arn"])
    assert "DesiredCount" not in service(daily, "web").properties, "a release at night must not start tasks"


def test_deployment_alarms_stop_a_deployment_that_serves_errors(staging: Any, synthesise: Callable[..., Any]) -> None:
    assert "Alarms" not in service(staging, "api").properties["DeploymentConfiguration"]
    watched = synthesise(STAGING.with_settings(tasks__deployment_alarms=True))
    alarms = service(watched, "api").properties["DeploymentConfiguration"]["Alarms"]
    assert (alarms["Enable"], alarms["Rollback"]) == (True, True)
    (name,) = alarms["AlarmNames"]
    assert watched.template("services")["Resources"][name["Ref"]]["Properties"]["MetricName"] == (
        "HTTPCode_Target_5XX_Count"
    )


def test_health_check_follows_the_entry_and_a_container_check_is_optional(synthesise: Callable[..., Any]) -> None:
    api = replace(STAGING.service("api"), health_path="/api/up", health_codes="200-399", health_command=None)
    services = tuple(api if each.name == "api" else each for each in STAGING.services)
    synthesis = synthesise(replace(STAGING, services=services))
    (group,) = [
        each.properties
        for each in synthesis.resources("services", "ElasticLoadBalancingV2::TargetGroup")
        if each.properties["Name"].startswith("alva-staging-api")
    ]
    assert (group["HealthCheckPath"], group["Matcher"]) == ("/api/up", {"HttpCode": "200-399"})
    (definition,) = [
        each.properties
        for each in synthesis.resources("services", "ECS::TaskDefinition")
        if each.properties["Family"] == "alva-api"
    ]
    assert all("HealthCheck" not in each for each in definition["ContainerDefinitions"])
