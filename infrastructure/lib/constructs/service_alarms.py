"""The alarms of one service.

The alarms on tasks and traffic are in the services stack and depend on the service. The alarms on load need only names,
and are in the monitoring stack.
"""

from __future__ import annotations

from collections.abc import Mapping

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from constructs import Construct

from lib.config.environments import Environment
from lib.config.service import Service
from lib.constructs.alarms import AlarmFactory

LOG_METRICS_NAMESPACE = "Alva/Logs"


def log_errors_metric(environment: Environment, settings: Service) -> str:
    """Return the name of the metric that counts errors in the service's log."""
    return f"{environment.name}-{settings.name}-errors"


def queue_depth_metric(environment: Environment, settings: Service) -> str:
    """Return the name of the metric of waiting jobs in the service's queue."""
    return f"{environment.name}-{settings.name}-queue-depth"


class ServiceTrafficAlarms(Construct):
    """The alarms on a service's tasks and traffic. A worker has alarms on its tasks only.

    Attributes: `server_errors`, which also stops a deployment if `tasks.deployment_alarms` is set (None for a worker),
    and `below_desired`, which is in ALARM while there is no data.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Service,
        environment: Environment,
        log_group_name: str,
        cluster_name: str,
        target: Mapping[str, str] | None,
        topic_arn: str,
    ) -> None:
        super().__init__(scope, construct_id)
        self.server_errors: cloudwatch.CfnAlarm | None = None
        factory = AlarmFactory(
            self, name_prefix=f"{environment.prefix}-{settings.name}", topic_arn=topic_arn, service=settings.name
        )
        desired = environment.tasks.desired_count
        # Without any target or task there is no data. This is an alarm, unless the environment stops at night.
        missing = "notBreaching" if environment.working_hours is not None else "breaching"
        if target is None:
            self.below_desired = factory.alarm(
                "below-desired",
                f"Fewer tasks of {settings.name} than {desired}",
                namespace="AWS/ECS",
                # Each running task reports one sample a minute:
                # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/service_utilization.html
                metric="CPUUtilization",
                dimensions={"ClusterName": cluster_name, "ServiceName": settings.service_name},
                statistic="SampleCount",
                comparison="LessThanThreshold",
                threshold=desired,
                missing=missing,
            )
        else:
            self.below_desired = factory.alarm(
                "below-desired",
                f"Fewer healthy tasks of {settings.name} than {desired}",
                namespace="AWS/ApplicationELB",
                metric="HealthyHostCount",
                dimensions=target,
                # When a service becomes healthy, that minute's minimum is 0, and the minutes before have no data, which
                # breaches: with the minimum, a new service would start with an alarm.
                statistic="Maximum",
                comparison="LessThanThreshold",
                threshold=desired,
                missing=missing,
            )
            self._traffic(factory, settings, environment, target)
        logs.CfnMetricFilter(
            self,
            "LogErrors",
            log_group_name=log_group_name,
            # The services log JSON objects with a level.
            filter_pattern='{ ($.level = "ERROR") || ($.level = "CRITICAL") }',
            metric_transformations=[
                logs.CfnMetricFilter.MetricTransformationProperty(
                    metric_namespace=LOG_METRICS_NAMESPACE,
                    metric_name=log_errors_metric(environment, settings),
                    metric_value="1",
                    default_value=0,
                )
            ],
        )
        if settings.has_queue:
            logs.CfnMetricFilter(
                self,
                "QueueDepth",
                log_group_name=log_group_name,
                filter_pattern="{ $.queue_depth = * }",
                metric_transformations=[
                    logs.CfnMetricFilter.MetricTransformationProperty(
                        metric_namespace=LOG_METRICS_NAMESPACE,
                        metric_name=queue_depth_metric(environment, settings),
                        metric_value="$.queue_depth",
                    )
                ],
            )

    def _traffic(
        self, factory: AlarmFactory, settings: Service, environment: Environment, target: Mapping[str, str]
    ) -> None:
        limits, name = environment.monitoring, settings.name
        factory.alarm(
            "unhealthy-hosts",
            f"A task of {name} fails its health checks",
            namespace="AWS/ApplicationELB",
            metric="UnHealthyHostCount",
            dimensions=target,
            statistic="Maximum",
            threshold=0,
            minutes=3,
        )
        self.server_errors = factory.alarm(
            "server-errors",
            f"{name} answers with 5xx",
            namespace="AWS/ApplicationELB",
            metric="HTTPCode_Target_5XX_Count",
            dimensions=target,
            statistic="Sum",
            threshold=limits.server_errors,
            minutes=3,
            minutes_to_alarm=2,
        )
        factory.alarm(
            "latency",
            f"One request in twenty to {name} takes longer than {limits.latency_seconds:g} s",
            namespace="AWS/ApplicationELB",
            metric="TargetResponseTime",
            dimensions=target,
            statistic="p95",
            threshold=limits.latency_seconds,
            minutes_to_alarm=3,
        )


class ServiceLoadAlarms(Construct):
    """The alarms on CPU, memory and logged errors of one service."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Service,
        environment: Environment,
        cluster_name: str,
        topic_arn: str,
    ) -> None:
        super().__init__(scope, construct_id)
        limits, name = environment.monitoring, settings.name
        factory = AlarmFactory(self, name_prefix=f"{environment.prefix}-{name}", topic_arn=topic_arn, service=name)
        task = {"ClusterName": cluster_name, "ServiceName": settings.service_name}
        factory.alarm(
            "cpu",
            f"{name} uses more than {limits.cpu_percent} % of its CPU",
            namespace="AWS/ECS",
            metric="CPUUtilization",
            dimensions=task,
            threshold=limits.cpu_percent,
        )
        factory.alarm(
            "memory",
            f"{name} uses more than {limits.memory_percent} % of its memory",
            namespace="AWS/ECS",
            metric="MemoryUtilization",
            dimensions=task,
            statistic="Maximum",
            threshold=limits.memory_percent,
        )
        factory.alarm(
            "log-errors",
            f"{name} logs errors",
            namespace=LOG_METRICS_NAMESPACE,
            metric=log_errors_metric(environment, settings),
            dimensions={},
            statistic="Sum",
            threshold=limits.log_errors,
            minutes=3,
            minutes_to_alarm=2,
        )
