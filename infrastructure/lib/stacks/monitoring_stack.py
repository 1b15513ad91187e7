"""Monitoring of the environment: topic, alarms on shared resources, failed deployments, dashboard.

It is deployed before the services, whose alarms notify this topic.
"""

from __future__ import annotations

from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from constructs import Construct

from lib.config.environments import Environment
from lib.constructs.accepted_findings import accept
from lib.constructs.alarms import AlarmFactory
from lib.constructs.service_alarms import (
    LOG_METRICS_NAMESPACE,
    ServiceLoadAlarms,
    log_errors_metric,
    queue_depth_metric,
)
from lib.stacks.alb_stack import AlbStack
from lib.stacks.cache_stack import CacheStack
from lib.stacks.database_stack import DatabaseStack, max_connections, memory_bytes
from lib.stacks.ecs_stack import EcsStack
from lib.stacks.environment_stack import EnvironmentStack

GIB = 1024**3

BLOCKED_A_MINUTE = 100

SWAP_PERCENT = 25
"""Percent of a class's memory. An idle micro instance swaps some tens of MB."""


def free_memory_percent(instance_class: str) -> int:
    """Return the least free memory of a class in its normal state, in percent.

    With 1 GiB, the operating system, RDS and an idle PostgreSQL leave about a tenth. Other projects measured a median
    of 94 MB and a minimum of 55 MB at four connections on db.t4g.micro, 110 to 150 MB on db.t3.micro (pull requests of
    kirill-markin/flashcards-open-source-app and ministryofjustice/analytical-platform).
    """
    return 4 if memory_bytes(instance_class) <= GIB else 10


QUERIES = {
    "errors": "fields @timestamp, @log, message, request_id"
    ' | filter level in ["ERROR", "CRITICAL"] | sort @timestamp desc',
    "slow-requests": "fields @timestamp, @log, method, path, duration_ms"
    " | filter duration_ms > 1000 | sort duration_ms desc",
    "one-request": 'fields @timestamp, @log, level, message | filter request_id = "REQUEST-ID" | sort @timestamp asc',
    "requests-per-path": "filter ispresent(path)"
    " | stats count(*) as requests, pct(duration_ms, 95) as p95 by @log, path | sort requests desc",
}


class MonitoringStack(EnvironmentStack):
    """Attribute: `topic_arn`. All alarms of the environment notify it."""

    def __init__(
        self,
        scope: Construct,
        *,
        environment: Environment,
        database: DatabaseStack,
        cache: CacheStack,
        alb: AlbStack,
        ecs: EcsStack,
    ) -> None:
        super().__init__(scope, "monitoring", environment=environment, description="Alarms and dashboard")
        self.topic_arn = self._topic()
        alarms = AlarmFactory(self, name_prefix=environment.prefix, topic_arn=self.topic_arn)
        self._load_balancer_alarms(alarms, alb)
        self._database_alarms(alarms, database)
        self._cache_alarms(alarms, cache)
        for service in environment.services:
            ServiceLoadAlarms(
                self,
                service.construct_id,
                settings=service,
                environment=environment,
                cluster_name=ecs.cluster_name,
                topic_arn=self.topic_arn,
            )
        self._failed_deployments(ecs)
        self._dashboard(alb, database, cache)
        self._queries()
        if environment.load_balancer.web_acl:
            self._web_acl_alarm(alarms)
        self.keep_exported(self.topic_arn)
        cdk.CfnOutput(self, "AlarmTopicArn", value=self.topic_arn)

    def _topic(self) -> str:
        email = self.environment_settings.monitoring.alarm_email
        topic = sns.CfnTopic(
            self,
            "Topic",
            topic_name=f"{self.environment_settings.prefix}-alarms",
            display_name=f"Alva {self.environment_settings.name}",
            subscription=[sns.CfnTopic.SubscriptionProperty(endpoint=email, protocol="email")] if email else None,
        )
        accept(
            topic,
            "Messages contain alarm names only; CloudWatch can publish to an encrypted topic only with a customer key "
            "($1 a month)",
            "CKV_AWS_26",
        )
        arn = str(topic.ref)
        sns.CfnTopicPolicy(
            self,
            "TopicPolicy",
            topics=[arn],
            policy_document={
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Sid": "AlarmsAndBudget",
                        "Effect": "Allow",
                        "Principal": {"Service": ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"]},
                        "Action": "sns:Publish",
                        "Resource": arn,
                        "Condition": {"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}},
                    },
                    {
                        # As AWS documents it, without a condition: EventBridge sends SNS no source account.
                        # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
                        "Sid": "FailedDeployments",
                        "Effect": "Allow",
                        "Principal": {"Service": "events.amazonaws.com"},
                        "Action": "sns:Publish",
                        "Resource": arn,
                    },
                    {
                        "Sid": "TlsOnly",
                        "Effect": "Deny",
                        "Principal": "*",
                        "Action": "sns:Publish",
                        "Resource": arn,
                        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                    },
                ],
            },
        )
        return arn

    def _load_balancer_alarms(self, alarms: AlarmFactory, alb: AlbStack) -> None:
        limits = self.environment_settings.monitoring
        load_balancer = {"LoadBalancer": alb.load_balancer_full_name}
        alarms.alarm(
            "alb-errors",
            "The load balancer itself answers with 5xx: no healthy target, or one that does not answer",
            namespace="AWS/ApplicationELB",
            metric="HTTPCode_ELB_5XX_Count",
            dimensions=load_balancer,
            statistic="Sum",
            threshold=limits.server_errors,
            minutes=3,
            minutes_to_alarm=2,
        )
        alarms.alarm(
            "target-errors",
            "Services answer with 5xx",
            namespace="AWS/ApplicationELB",
            metric="HTTPCode_Target_5XX_Count",
            dimensions=load_balancer,
            statistic="Sum",
            threshold=limits.server_errors,
            minutes=3,
            minutes_to_alarm=2,
        )
        alarms.alarm(
            "latency",
            f"One request in twenty takes longer than {limits.latency_seconds:g} s",
            namespace="AWS/ApplicationELB",
            metric="TargetResponseTime",
            dimensions=load_balancer,
            statistic="p95",
            threshold=limits.latency_seconds,
            minutes_to_alarm=3,
        )

    def _database_alarms(self, alarms: AlarmFactory, database: DatabaseStack) -> None:
        settings, limits = self.environment_settings.database, self.environment_settings.monitoring
        instance = {"DBInstanceIdentifier": database.instance_identifier}
        connections = max_connections(settings.instance_class) * limits.connections_percent // 100
        alarms.alarm(
            "database-cpu",
            f"The database uses more than {limits.cpu_percent} % of its CPU",
            namespace="AWS/RDS",
            metric="CPUUtilization",
            dimensions=instance,
            threshold=limits.cpu_percent,
        )
        alarms.alarm(
            "database-storage",
            f"Less than {limits.storage_free_percent} % of the database's storage is free",
            namespace="AWS/RDS",
            metric="FreeStorageSpace",
            dimensions=instance,
            statistic="Minimum",
            comparison="LessThanThreshold",
            threshold=settings.storage_gib * GIB * limits.storage_free_percent // 100,
        )
        alarms.alarm(
            "database-connections",
            f"More than {connections} connections, {limits.connections_percent} % of what the class allows",
            namespace="AWS/RDS",
            metric="DatabaseConnections",
            dimensions=instance,
            statistic="Maximum",
            threshold=connections,
            minutes=3,
        )
        free_percent = free_memory_percent(settings.instance_class)
        alarms.alarm(
            "database-memory",
            f"Less than {free_percent} % of the database's memory is free",
            namespace="AWS/RDS",
            metric="FreeableMemory",
            dimensions=instance,
            comparison="LessThanThreshold",
            threshold=memory_bytes(settings.instance_class) * free_percent // 100,
            minutes=15,
        )
        alarms.alarm(
            "database-swap",
            "The database swaps: its memory is too small for what it does",
            namespace="AWS/RDS",
            metric="SwapUsage",
            dimensions=instance,
            threshold=memory_bytes(settings.instance_class) * SWAP_PERCENT // 100,
            minutes=15,
        )

    def _web_acl_alarm(self, alarms: AlarmFactory) -> None:
        # https://docs.aws.amazon.com/waf/latest/developerguide/waf-metrics.html
        environment = self.environment_settings
        alarms.alarm(
            "web-acl-blocks",
            f"The web ACL blocks more than {BLOCKED_A_MINUTE} requests a minute: an attack, or a rule that hits users",
            namespace="AWS/WAFV2",
            metric="BlockedRequests",
            dimensions={"WebACL": environment.prefix, "Region": environment.region, "Rule": "ALL"},
            statistic="Sum",
            threshold=BLOCKED_A_MINUTE,
        )

    def _cache_alarms(self, alarms: AlarmFactory, cache: CacheStack) -> None:
        for number in range(1, 2 + self.environment_settings.cache.replicas):
            # A replication group has no metrics of its own. ElastiCache numbers its nodes.
            node = {"CacheClusterId": f"{cache.replication_group_id}-{number:03}"}
            suffix = "" if number == 1 else f"-{number}"
            alarms.alarm(
                f"redis-memory{suffix}",
                "More than 75 % of Redis' memory is used: with noeviction, writes fail when it is full",
                namespace="AWS/ElastiCache",
                metric="DatabaseMemoryUsagePercentage",
                dimensions=node,
                statistic="Maximum",
                threshold=75,
            )
            alarms.alarm(
                f"redis-evictions{suffix}",
                "Redis evicts keys, and with them jobs: it must not, check maxmemory-policy",
                namespace="AWS/ElastiCache",
                metric="Evictions",
                dimensions=node,
                statistic="Sum",
                threshold=0,
                minutes=1,
            )
            alarms.alarm(
                f"redis-connections{suffix}",
                "More than 500 connections to Redis: clients leak them",
                namespace="AWS/ElastiCache",
                metric="CurrConnections",
                dimensions=node,
                statistic="Maximum",
                threshold=500,
            )

    def _failed_deployments(self, ecs: EcsStack) -> None:
        services = f"arn:{cdk.Aws.PARTITION}:ecs:{cdk.Aws.REGION}:{cdk.Aws.ACCOUNT_ID}:service/{ecs.cluster_name}/"
        events.CfnRule(
            self,
            "FailedDeployment",
            name=f"{self.environment_settings.prefix}-failed-deployment",
            description="A deployment failed, and ECS rolls it back",
            event_pattern={
                "source": ["aws.ecs"],
                "detail-type": ["ECS Deployment State Change"],
                "resources": [{"prefix": services}],
                "detail": {"eventName": ["SERVICE_DEPLOYMENT_FAILED"]},
            },
            targets=[events.CfnRule.TargetProperty(id="topic", arn=self.topic_arn)],
        )

    def _dashboard(self, alb: AlbStack, database: DatabaseStack, cache: CacheStack) -> None:
        environment = self.environment_settings
        load_balancer = alb.load_balancer_full_name
        services = [service.service_name for service in environment.services]
        cluster = f"{environment.prefix}-cluster"
        instance, node = database.instance_identifier, f"{cache.replication_group_id}-001"

        def elb(metric: str, statistic: str) -> list[Any]:
            return ["AWS/ApplicationELB", metric, "LoadBalancer", load_balancer, {"stat": statistic}]

        def per_service(metric: str) -> list[list[Any]]:
            return [["AWS/ECS", metric, "ClusterName", cluster, "ServiceName", each] for each in services]

        charts: list[tuple[str, list[list[Any]]]] = [
            ("Requests a minute", [elb("RequestCount", "Sum")]),
            ("5xx a minute", [elb("HTTPCode_ELB_5XX_Count", "Sum"), elb("HTTPCode_Target_5XX_Count", "Sum")]),
            ("Latency, s", [elb("TargetResponseTime", "p50"), elb("TargetResponseTime", "p95")]),
            ("CPU of services, %", per_service("CPUUtilization")),
            ("Memory of services, %", per_service("MemoryUtilization")),
            (
                "Database",
                [
                    ["AWS/RDS", metric, "DBInstanceIdentifier", instance]
                    for metric in ("CPUUtilization", "DatabaseConnections")
                ],
            ),
            (
                "Redis",
                [
                    ["AWS/ElastiCache", metric, "CacheClusterId", node]
                    for metric in ("DatabaseMemoryUsagePercentage", "EngineCPUUtilization", "CurrConnections")
                ],
            ),
            (
                "Errors in logs a minute",
                [
                    [LOG_METRICS_NAMESPACE, log_errors_metric(environment, each), {"stat": "Sum"}]
                    for each in environment.services
                ],
            ),
        ]
        queues = [
            [LOG_METRICS_NAMESPACE, queue_depth_metric(environment, each), {"stat": "Maximum"}]
            for each in environment.services
            if each.has_queue
        ]
        if queues:
            charts.append(("Queue depth, jobs that wait", queues))
        widgets = [
            {
                "type": "metric",
                "x": 12 * (index % 2),
                "y": 6 * (index // 2),
                "width": 12,
                "height": 6,
                "properties": {"title": title, "metrics": metrics, "period": 60, "region": environment.region},
            }
            for index, (title, metrics) in enumerate(charts)
        ]
        cloudwatch.CfnDashboard(
            self,
            "Dashboard",
            dashboard_name=environment.prefix,
            dashboard_body=self.to_json_string({"widgets": widgets}),
        )

    def _queries(self) -> None:
        environment = self.environment_settings
        log_groups = [environment.log_group(service.name) for service in environment.services]
        for name, query in QUERIES.items():
            logs.CfnQueryDefinition(
                self,
                "".join(part.capitalize() for part in name.split("-")) + "Query",
                name=f"{environment.prefix}/{name}",
                query_string=query,
                log_group_names=log_groups,
            )
