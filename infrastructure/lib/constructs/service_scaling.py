"""Scaling of a service, if settings enable it: by load between two limits, and to zero at night."""

from __future__ import annotations

from aws_cdk import aws_applicationautoscaling as autoscaling
from aws_cdk import aws_ecs as ecs
from constructs import Construct

from lib.config.environments import Environment
from lib.config.service import Service
from lib.config.settings import WorkingHours

CPU_TARGET_PERCENT = 60
MEMORY_TARGET_PERCENT = 70


class ServiceScaling(Construct):
    """A scalable target with target tracking policies, and with two schedules if the environment stops at night."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: Service,
        environment: Environment,
        cluster_name: str,
        service: ecs.CfnService,
    ) -> None:
        super().__init__(scope, construct_id)
        tasks = environment.tasks
        target = autoscaling.CfnScalableTarget(
            self,
            "Target",
            service_namespace="ecs",
            scalable_dimension="ecs:service:DesiredCount",
            resource_id=f"service/{cluster_name}/{settings.service_name}",
            min_capacity=tasks.desired_count,
            max_capacity=tasks.max_count,
            scheduled_actions=_schedule(environment.working_hours, tasks.desired_count, tasks.max_count)
            if environment.working_hours
            else None,
        )
        target.add_resource_dependency(service)
        if not tasks.scales:
            return
        for name, metric, percent in (
            ("Cpu", "ECSServiceAverageCPUUtilization", CPU_TARGET_PERCENT),
            ("Memory", "ECSServiceAverageMemoryUtilization", MEMORY_TARGET_PERCENT),
        ):
            autoscaling.CfnScalingPolicy(
                self,
                name,
                policy_name=f"{environment.prefix}-{settings.name}-{name.lower()}",
                policy_type="TargetTrackingScaling",
                scaling_target_id=target.ref,
                target_tracking_scaling_policy_configuration=autoscaling.CfnScalingPolicy.TargetTrackingScalingPolicyConfigurationProperty(
                    target_value=percent,
                    predefined_metric_specification=autoscaling.CfnScalingPolicy.PredefinedMetricSpecificationProperty(
                        predefined_metric_type=metric
                    ),
                    scale_out_cooldown=60,
                    scale_in_cooldown=300,
                ),
            )


def _schedule(
    hours: WorkingHours, desired_count: int, max_count: int
) -> list[autoscaling.CfnScalableTarget.ScheduledActionProperty]:
    return [
        autoscaling.CfnScalableTarget.ScheduledActionProperty(
            scheduled_action_name=name,
            schedule=f"cron(0 {hour} ? * MON-FRI *)",
            timezone=hours.time_zone,
            scalable_target_action=autoscaling.CfnScalableTarget.ScalableTargetActionProperty(
                min_capacity=minimum, max_capacity=maximum
            ),
        )
        for name, hour, minimum, maximum in (
            ("start-in-the-morning", hours.start_hour, desired_count, max_count),
            ("stop-at-night", hours.stop_hour, 0, 0),
        )
    ]
