"""The resources of one service: task definition, target group, listener rule, DNS name and ECS service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_elasticloadbalancingv2 as elbv2
from aws_cdk import aws_servicediscovery as servicediscovery
from constructs import Construct

from lib.config.environments import Environment
from lib.config.service import Service
from lib.constructs.service_alarms import ServiceTrafficAlarms
from lib.constructs.service_environment import Addresses, service_variables
from lib.constructs.service_scaling import ServiceScaling
from lib.constructs.task_definition import Container, TaskDefinition, TaskSize, digest_parameter

UNUSED_PORT = 80
"""A target group requires a default port. No target uses it, because ECS registers each with its own port."""


@dataclass(frozen=True, kw_only=True)
class Platform:
    """The resources that all services of an environment share."""

    vpc_id: str
    subnet_ids: Sequence[str]
    security_group_id: str
    listener_arn: str
    load_balancer_full_name: str
    cluster_name: str
    namespace_id: str
    alarm_topic_arn: str
    secret_arns: Mapping[str, str]
    addresses: Addresses


class EcsService(Construct):
    """One service behind the load balancer, with the DNS name `<name>.<namespace>`; or a worker with neither.

    Attributes: `service`, `target_group` (None for a worker), `task_definition`.
    """

    def __init__(
        self,
        scope: Construct,
        *,
        settings: Service,
        environment: Environment,
        platform: Platform,
    ) -> None:
        super().__init__(scope, settings.construct_id)
        self._settings = settings
        self._environment = environment
        self._platform = platform

        digest = digest_parameter(scope, settings.image_parameter, settings.name)
        self.task_definition = self._task_definition(digest.value_as_string)
        self.target_group = None if settings.port is None else self._target_group()
        self.alarms = self._alarms()
        self.service = self._service(None if settings.port is None else self._discovery())
        if self.target_group is not None:
            # ECS refuses a service if no listener uses its target group.
            self.service.add_resource_dependency(self._listener_rule(self.target_group))
        # Without a task there is no data, and the alarm would go to ALARM during the first release.
        self.alarms.below_desired.add_resource_dependency(self.service)
        if environment.tasks.scales or environment.working_hours:
            ServiceScaling(
                self,
                "Scaling",
                settings=settings,
                environment=environment,
                cluster_name=platform.cluster_name,
                service=self.service,
            )

    def _task_definition(self, image_digest: str) -> TaskDefinition:
        settings, environment = self._settings, self._environment
        cpu_units, memory_mib = environment.tasks.sizes.get(settings.name, (settings.cpu_units, settings.memory_mib))
        variables = service_variables(
            settings, environment, addresses=self._platform.addresses, image_digest=image_digest
        )
        main = Container(
            name=settings.name,
            environment=variables,
            secrets=settings.secret_keys,
            port=settings.port,
            health_command=settings.health_command,
            read_only_root=settings.read_only_root,
        )
        companions = [
            Container(
                name=each.name,
                command=each.command,
                environment=variables,
                secrets=settings.secret_keys,
                read_only_root=settings.read_only_root,
            )
            for each in settings.companions
        ]
        return TaskDefinition(
            self,
            "Task",
            environment=environment,
            family=settings.service_name,
            size=TaskSize(cpu_units=cpu_units, memory_mib=memory_mib),
            containers=[main, *companions],
            repository_name=settings.service_name,
            image_digest=image_digest,
            secret_arns=self._platform.secret_arns,
            log_group_name=environment.log_group(settings.name),
            exec_enabled=environment.tasks.exec_enabled,
        )

    def _target_group(self) -> elbv2.CfnTargetGroup:
        tasks = self._environment.tasks
        return elbv2.CfnTargetGroup(
            self,
            "TargetGroup",
            # A changed protocol replaces the group, and a replacement needs another name.
            name=f"{self._environment.prefix}-{self._settings.name}"[:27] + "-http",
            target_type="ip",
            protocol="HTTP",
            # ECS registers each task with its container's port. With that port here, a change of the port would replace
            # the group, and the listener rule would forward to the new group before it has a target:
            # docs/decisions/expand-move-contract.md
            port=UNUSED_PORT,
            vpc_id=self._platform.vpc_id,
            health_check_enabled=True,
            health_check_protocol="HTTP",
            # Health checks go directly to the target, without listener rules, so the path has no prefix.
            health_check_path=self._settings.health_path,
            health_check_port="traffic-port",
            health_check_interval_seconds=tasks.health_interval_seconds,
            health_check_timeout_seconds=tasks.health_timeout_seconds,
            healthy_threshold_count=2,
            unhealthy_threshold_count=2,
            matcher=elbv2.CfnTargetGroup.MatcherProperty(http_code=self._settings.health_codes),
            target_group_attributes=[
                elbv2.CfnTargetGroup.TargetGroupAttributeProperty(
                    key="deregistration_delay.timeout_seconds", value=str(tasks.deregistration_delay_seconds)
                ),
            ],
        )

    def _alarms(self) -> ServiceTrafficAlarms:
        target = None
        if self.target_group is not None:
            target = {
                "LoadBalancer": self._platform.load_balancer_full_name,
                "TargetGroup": self.target_group.attr_target_group_full_name,
            }
        return ServiceTrafficAlarms(
            self,
            "Alarms",
            settings=self._settings,
            environment=self._environment,
            log_group_name=self.task_definition.log_group.ref,
            cluster_name=self._platform.cluster_name,
            target=target,
            topic_arn=self._platform.alarm_topic_arn,
        )

    def _listener_rule(self, target_group: elbv2.CfnTargetGroup) -> elbv2.CfnListenerRule:
        reached_by = self._reached_by()
        allowed = self._environment.load_balancer.admin_allowed_cidrs if self._settings.allowlisted else ()
        conditions = [reached_by]
        if allowed:
            conditions.append(
                elbv2.CfnListenerRule.RuleConditionProperty(
                    field="source-ip",
                    source_ip_config=elbv2.CfnListenerRule.SourceIpConfigProperty(values=list(allowed)),
                )
            )
            # Without this rule, all other addresses would match the rule of `/*`.
            self._rule("Refusal", self._settings.priority + 1, [reached_by], _forbidden())
        forward = elbv2.CfnListenerRule.ActionProperty(type="forward", target_group_arn=target_group.ref)
        return self._rule("Rule", self._settings.priority, conditions, forward)

    def _reached_by(self) -> elbv2.CfnListenerRule.RuleConditionProperty:
        host = self._environment.host(self._settings)
        if host is None:
            return elbv2.CfnListenerRule.RuleConditionProperty(
                field="path-pattern",
                path_pattern_config=elbv2.CfnListenerRule.PathPatternConfigProperty(values=list(self._settings.paths)),
            )
        return elbv2.CfnListenerRule.RuleConditionProperty(
            field="host-header",
            host_header_config=elbv2.CfnListenerRule.HostHeaderConfigProperty(values=[host]),
        )

    def _rule(
        self,
        construct_id: str,
        priority: int,
        conditions: list[elbv2.CfnListenerRule.RuleConditionProperty],
        action: elbv2.CfnListenerRule.ActionProperty,
    ) -> elbv2.CfnListenerRule:
        return elbv2.CfnListenerRule(
            self,
            construct_id,
            listener_arn=self._platform.listener_arn,
            priority=priority,
            conditions=conditions,
            actions=[action],
        )

    def _discovery(self) -> servicediscovery.CfnService:
        return servicediscovery.CfnService(
            self,
            "Name",
            name=self._settings.name,
            namespace_id=self._platform.namespace_id,
            dns_config=servicediscovery.CfnService.DnsConfigProperty(
                routing_policy="MULTIVALUE",
                # A client that caches the address longer would call a stopped task.
                dns_records=[servicediscovery.CfnService.DnsRecordProperty(type="A", ttl=10)],
            ),
            health_check_custom_config=servicediscovery.CfnService.HealthCheckCustomConfigProperty(failure_threshold=1),
        )

    def _service(self, discovery: servicediscovery.CfnService | None) -> ecs.CfnService:
        settings, tasks = self._settings, self._environment.tasks
        stopping = self.alarms.server_errors
        return ecs.CfnService(
            self,
            "Service",
            service_name=settings.service_name,
            cluster=self._platform.cluster_name,
            task_definition=self.task_definition.arn,
            # If the service scales, a count here would reset it at each release.
            desired_count=None if tasks.scales or self._environment.working_hours else tasks.desired_count,
            capacity_provider_strategy=[
                ecs.CfnService.CapacityProviderStrategyItemProperty(
                    capacity_provider="FARGATE_SPOT" if tasks.spot else "FARGATE", weight=1
                )
            ],
            platform_version="1.4.0",
            deployment_configuration=ecs.CfnService.DeploymentConfigurationProperty(
                minimum_healthy_percent=100,
                maximum_percent=200,
                alarms=ecs.CfnService.DeploymentAlarmsProperty(alarm_names=[stopping.ref], enable=True, rollback=True)
                if tasks.deployment_alarms and stopping is not None
                else None,
                deployment_circuit_breaker=ecs.CfnService.DeploymentCircuitBreakerProperty(
                    enable=True,
                    rollback=True,
                    # The default waits for at least three failed tasks, and for up to 200.
                    threshold_configuration=ecs.CfnService.ThresholdConfigurationProperty(
                        type="COUNT", value=tasks.circuit_breaker_failures
                    ),
                ),
            ),
            health_check_grace_period_seconds=None if self.target_group is None else tasks.grace_period_seconds,
            enable_execute_command=tasks.exec_enabled,
            enable_ecs_managed_tags=True,
            propagate_tags="SERVICE",
            network_configuration=ecs.CfnService.NetworkConfigurationProperty(
                awsvpc_configuration=ecs.CfnService.AwsVpcConfigurationProperty(
                    subnets=list(self._platform.subnet_ids),
                    security_groups=[self._platform.security_group_id],
                    assign_public_ip="DISABLED",
                )
            ),
            load_balancers=[
                ecs.CfnService.LoadBalancerProperty(
                    container_name=settings.name,
                    container_port=settings.port,
                    target_group_arn=self.target_group.ref,
                )
            ]
            if self.target_group is not None
            else None,
            service_registries=[ecs.CfnService.ServiceRegistryProperty(registry_arn=discovery.attr_arn)]
            if discovery is not None
            else None,
        )


def _forbidden() -> elbv2.CfnListenerRule.ActionProperty:
    return elbv2.CfnListenerRule.ActionProperty(
        type="fixed-response",
        fixed_response_config=elbv2.CfnListenerRule.FixedResponseConfigProperty(
            status_code="403", content_type="text/plain", message_body="Not from this address."
        ),
    )
