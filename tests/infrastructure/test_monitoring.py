"""Alarms, topic, dashboard, queries and budget."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from lib.config.environments import STAGING
from lib.config.settings import WorkingHours

from tests.cdk import start_cdk

NAMES = [service.name for service in STAGING.services]


def alarms(synthesis: Any) -> dict[str, dict[str, Any]]:
    return {
        each.properties["AlarmName"]: each.properties
        for part in ("monitoring", "services")
        for each in synthesis.resources(part, "CloudWatch::Alarm")
    }


def test_alarms_are_exactly_the_expected_ones(staging: Any) -> None:
    per_service = {
        f"alva-staging-{name}-{what}"
        for name in NAMES
        for what in ("unhealthy-hosts", "below-desired", "server-errors", "latency", "cpu", "memory", "log-errors")
    }
    shared = {
        f"alva-staging-{what}"
        for what in (
            "alb-errors",
            "target-errors",
            "latency",
            "database-cpu",
            "database-storage",
            "database-connections",
            "database-memory",
            "database-swap",
            "redis-memory",
            "redis-evictions",
            "redis-connections",
        )
    }
    assert set(alarms(staging)) == per_service | shared


def test_the_manifest_names_the_part_that_every_alarm_watches(staging: Any) -> None:
    parts = staging.manifest["alarms"]
    assert parts.keys() == alarms(staging).keys()
    owned = {name: next((each for each in NAMES if name.startswith(f"alva-staging-{each}-")), None) for name in parts}
    assert {name: parts[name] for name, service in owned.items() if service} == {k: v for k, v in owned.items() if v}
    shared = {parts[name] for name, service in owned.items() if service is None}
    assert shared == {"alb", "database", "cache"}


def test_every_alarm_notifies_the_topic_in_alarm_and_in_ok(staging: Any) -> None:
    for name, alarm in alarms(staging).items():
        for action in (alarm["AlarmActions"], alarm["OKActions"]):
            assert len(action) == 1, name
            assert "Topic" in json.dumps(action), name


@pytest.mark.parametrize("name", NAMES)
def test_alarm_on_missing_tasks_is_in_alarm_even_without_any_task(staging: Any, name: str) -> None:
    alarm = alarms(staging)[f"alva-staging-{name}-below-desired"]
    assert alarm["MetricName"] == "HealthyHostCount"
    # The minimum of the minute in which a new service becomes healthy is 0.
    assert alarm["Statistic"] == "Maximum"
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
    assert alarm["TreatMissingData"] == "breaching"


def test_service_that_stops_at_night_raises_no_alarm(synthesise: Callable[..., Any]) -> None:
    daily = synthesise(STAGING.with_settings(working_hours=WorkingHours(start_hour=8, stop_hour=20)))
    assert alarms(daily)["alva-staging-web-below-desired"]["TreatMissingData"] == "notBreaching"


def test_database_alarms_follow_from_its_class_and_storage(staging: Any, production: Any) -> None:
    assert alarms(staging)["alva-staging-database-connections"]["Threshold"] == 78 * 80 // 100
    assert alarms(staging)["alva-staging-database-storage"]["Threshold"] == 20 * 2**30 * 20 // 100
    assert alarms(production)["alva-production-database-storage"]["Threshold"] == 100 * 2**30 * 30 // 100


def test_redis_alarms_before_writes_fail(staging: Any) -> None:
    memory = alarms(staging)["alva-staging-redis-memory"]
    assert (memory["MetricName"], memory["Threshold"]) == ("DatabaseMemoryUsagePercentage", 75)
    assert memory["Dimensions"] == [{"Name": "CacheClusterId", "Value": "alva-staging-redis-001"}]
    assert alarms(staging)["alva-staging-redis-evictions"]["Threshold"] == 0


def test_each_node_of_a_replicated_cache_is_watched(production: Any) -> None:
    nodes = {
        each["Dimensions"][0]["Value"]
        for name, each in alarms(production).items()
        if name.startswith("alva-production-redis-memory")
    }
    assert nodes == {"alva-production-redis-001", "alva-production-redis-002"}


def test_production_alarms_have_lower_thresholds(staging: Any, production: Any) -> None:
    def threshold(synthesis: Any, name: str) -> float:
        return float(alarms(synthesis)[f"{synthesis.environment.prefix}-{name}"]["Threshold"])

    for name in ("api-cpu", "api-memory", "api-latency", "api-server-errors", "api-log-errors", "database-cpu"):
        assert threshold(production, name) < threshold(staging, name)


def log_metrics(synthesis: Any) -> dict[str, Any]:
    """Each metric that a filter publishes from log lines -> the filter's properties."""
    filters = [each.properties for each in synthesis.resources("services", "Logs::MetricFilter")]
    return {each["MetricTransformations"][0]["MetricName"]: each for each in filters}


def test_errors_in_a_services_log_are_counted(staging: Any) -> None:
    counted = {name: each for name, each in log_metrics(staging).items() if name.endswith("-errors")}
    assert all('$.level = "ERROR"' in each["FilterPattern"] for each in counted.values())
    watched = {each["MetricName"] for name, each in alarms(staging).items() if name.endswith("-log-errors")}
    assert counted.keys() == watched == {f"staging-{name}-errors" for name in NAMES}


def test_depth_of_the_queue_is_a_metric_on_the_dashboard(staging: Any) -> None:
    depth = log_metrics(staging)["staging-api-queue-depth"]
    # CloudWatch reads a value only from a field in the pattern.
    assert depth["FilterPattern"] == "{ $.queue_depth = * }"
    assert depth["MetricTransformations"][0]["MetricValue"] == "$.queue_depth"
    assert "staging-api-queue-depth" in str(staging.one("monitoring", "CloudWatch::Dashboard")["DashboardBody"])


def test_failed_deployments_reach_the_topic(staging: Any) -> None:
    rule = staging.one("monitoring", "Events::Rule")
    assert rule["EventPattern"]["detail"] == {"eventName": ["SERVICE_DEPLOYMENT_FAILED"]}
    assert rule["EventPattern"]["detail-type"] == ["ECS Deployment State Change"]
    assert rule["Targets"][0]["Arn"] == {"Ref": "Topic"}


def test_topic_accepts_messages_from_its_account_over_tls_only(staging: Any) -> None:
    allow, events, deny = staging.one("monitoring", "SNS::TopicPolicy")["PolicyDocument"]["Statement"]
    assert set(allow["Principal"]["Service"]) == {"cloudwatch.amazonaws.com", "budgets.amazonaws.com"}
    assert events["Principal"] == {"Service": "events.amazonaws.com"}
    assert allow["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_alarms_reach_an_inbox_where_one_is_set(staging: Any, synthesise: Callable[..., Any]) -> None:
    assert "Subscription" not in staging.one("monitoring", "SNS::Topic")
    told = synthesise(STAGING.with_settings(monitoring__alarm_email="ops@example.com"))
    assert told.one("monitoring", "SNS::Topic")["Subscription"] == [
        {"Endpoint": "ops@example.com", "Protocol": "email"}
    ]


def test_budget_warns_at_80_percent_and_when_the_forecast_exceeds_it(staging: Any) -> None:
    budget = staging.one("budget", "Budgets::Budget")
    assert budget["Budget"]["BudgetLimit"] == {"Amount": 250, "Unit": "USD"}
    assert budget["Budget"]["TimeUnit"] == "MONTHLY"
    assert {
        (each["Notification"]["NotificationType"], each["Notification"]["Threshold"])
        for each in budget["NotificationsWithSubscribers"]
    } == {("ACTUAL", 80), ("FORECASTED", 100)}


def test_dashboard_is_valid_json_about_this_environment(staging: Any) -> None:
    body = staging.one("monitoring", "CloudWatch::Dashboard")["DashboardBody"]
    text = "".join(part if isinstance(part, str) else "LB" for part in body["Fn::Join"][1])
    widgets = json.loads(text)["widgets"]
    assert len(widgets) == 9
    assert {widget["properties"]["region"] for widget in widgets} == {"us-east-1"}
    metrics = json.dumps(widgets)
    for name in NAMES:
        assert f'"alva-{name}"' in metrics


def test_saved_queries_search_the_services_logs(staging: Any) -> None:
    queries = {
        each.properties["Name"]: each.properties for each in staging.resources("monitoring", "Logs::QueryDefinition")
    }
    assert set(queries) == {
        f"alva-staging/{name}" for name in ("errors", "slow-requests", "one-request", "requests-per-path")
    }
    for query in queries.values():
        assert query["LogGroupNames"] == [f"/alva/staging/{name}" for name in NAMES]


@pytest.mark.parametrize(
    ("instance_class", "measured"),
    # Pull request 1657 of kirill-markin/flashcards-open-source-app; gist guizmaii/1cacffef793c2ba9645083c3e18b3d8c for
    # t2.small, t2.medium and m4.large, which have 2, 4 and 8 GiB.
    [("db.t4g.small", 181), ("db.t3.small", 198), ("db.t3.medium", 413), ("db.t3.large", 856)],
)
def test_connections_are_fewer_than_rds_allows_by_default_where_that_was_measured(
    instance_class: str, measured: int
) -> None:
    """RDS's formula counts the memory without the operating system. An alarm above the real limit is never in ALARM."""
    start_cdk()
    from lib.stacks.database_stack import max_connections

    assert measured * 0.7 < max_connections(instance_class) < measured


def test_database_alarm_and_manifest_agree_on_max_connections(staging: Any) -> None:
    parameters = staging.one("database", "RDS::DBParameterGroup")["Parameters"]
    assert int(parameters["max_connections"]) == staging.manifest["database"]["max_connections"] == 78


def test_memory_alarm_is_quiet_in_the_normal_state_of_a_micro_instance(staging: Any, production: Any) -> None:
    """Others measured a minimum of 55 MB free on db.t4g.micro, and 110 MB on db.t3.micro."""
    assert alarms(staging)["alva-staging-database-memory"]["Threshold"] < 55 * 10**6
    assert alarms(production)["alva-production-database-memory"]["Threshold"] > 800 * 10**6


def test_alarm_on_missing_data_is_created_after_the_source_of_the_data(staging: Any) -> None:
    resources = staging.template("services")["Resources"]
    waiting = {
        alarm.properties["AlarmName"]: [resources[each]["Type"] for each in alarm.definition.get("DependsOn", [])]
        for alarm in staging.resources("services", "CloudWatch::Alarm")
        if alarm.properties["TreatMissingData"] == "breaching"
    }
    assert len(waiting) == len(staging.environment.services)
    assert all("AWS::ECS::Service" in after for after in waiting.values())


def test_budget_is_a_separate_stack_that_is_optional(staging: Any, synthesise: Callable[..., Any]) -> None:
    """An account may refuse budgets; the release then continues."""
    stacks = {stack["name"]: stack for stack in staging.manifest["stacks"]}
    assert [name for name, stack in stacks.items() if stack["optional"]] == ["alva-staging-budget"]
    assert stacks["alva-staging-budget"]["phase"] == "after"
    assert len(staging.template("budget")["Resources"]) == 1
    assert not [name for name, stack in stacks.items() if "alva-staging-budget" in stack["depends_on"]]
    without = synthesise(STAGING.with_settings(monitoring__monthly_budget_usd=None))
    assert [stack["name"] for stack in without.manifest["stacks"]] == [
        name for name in stacks if name != "alva-staging-budget"
    ]
