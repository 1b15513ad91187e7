"""The alarms of one service, in two places.

Those on its traffic need its target group and live beside it. Those on its load need nothing but names and live in the
monitoring stack, which keeps the services' template below the 51,200 bytes that CloudFormation takes inline.
"""

from __future__ import annotations

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from constructs import Construct

from lib.config.environments import Environment
from lib.config.services import Service
from lib.constructs.alarms import AlarmFactory

LOG_METRICS_NAMESPACE = "Alva/Logs"


def log_errors_metric(environment: Environment, settings: Service) -> str:
    """The name of the metric that counts the errors in the service's log."""
    return f"{environment.name}-{settings.name}-errors"


class ServiceTrafficAlarms(Construct):
    """Attributes: `server_errors`, the alarm that also stops a deployment where `tasks.deployment_alarms` is set, and
    `below_desired`, which rings while there is no data."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Service,
        environment: Environment,
        log_group_name: str,
        load_balancer_full_name: str,
        target_group_full_name: str,
        topic_arn: str,
    ) -> None:
        super().__init__(scope, construct_id)
        limits, name = environment.monitoring, settings.name
        factory = AlarmFactory(self, name_prefix=f"{environment.prefix}-{name}", topic_arn=topic_arn)
        target = {"LoadBalancer": load_balancer_full_name, "TargetGroup": target_group_full_name}
        stops_at_night = environment.working_hours is not None

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
        self.below_desired: cloudwatch.CfnAlarm = factory.alarm(
            "below-desired",
            f"Fewer healthy tasks of {name} than {environment.tasks.desired_count}",
            namespace="AWS/ApplicationELB",
            metric="HealthyHostCount",
            dimensions=target,
            statistic="Minimum",
            comparison="LessThanThreshold",
            threshold=environment.tasks.desired_count,
            # No target at all means no data: that is the worst case, unless it is night.
            missing="notBreaching" if stops_at_night else "breaching",
        )
        self.server_errors: cloudwatch.CfnAlarm = factory.alarm(
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
        logs.CfnMetricFilter(
            self,
            "LogErrors",
            log_group_name=log_group_name,
            # The services log JSON lines with a level.
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


class ServiceLoadAlarms(Construct):
    """CPU, memory and errors in the log of one service."""

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
        factory = AlarmFactory(self, name_prefix=f"{environment.prefix}-{name}", topic_arn=topic_arn)
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
