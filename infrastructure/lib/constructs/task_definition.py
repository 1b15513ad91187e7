"""A Fargate task definition with one image: containers, log group and roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_ecs as ecs
from constructs import Construct

from lib.config.environments import Environment
from lib.config.secrets import SecretKey
from lib.constructs.accepted_findings import accept
from lib.constructs.log_group import log_group
from lib.constructs.task_roles import TaskRoles

SCRATCH_VOLUME = "scratch"


@dataclass(frozen=True, kw_only=True)
class Container:
    """One container of a task. `port` and `health_command` are for a container that serves requests."""

    name: str
    environment: Mapping[str, str]
    secrets: Mapping[str, SecretKey]
    command: tuple[str, ...] | None = None
    port: int | None = None
    health_command: tuple[str, ...] | None = None
    read_only_root: bool = True


@dataclass(frozen=True, kw_only=True)
class TaskSize:
    cpu_units: int
    memory_mib: int


class TaskDefinition(Construct):
    """Attributes: `arn` and `log_group`. All containers have the same image and secrets."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        environment: Environment,
        family: str,
        size: TaskSize,
        containers: Sequence[Container],
        repository_name: str,
        image_digest: str,
        secret_arns: Mapping[str, str],
        log_group_name: str,
        exec_enabled: bool = False,
    ) -> None:
        super().__init__(scope, construct_id)
        self._environment = environment
        self._secret_arns = secret_arns
        self._exec_enabled = exec_enabled
        # By name, because a reference would create an export, which would block the removal of a service.
        registry = f"{cdk.Aws.ACCOUNT_ID}.dkr.ecr.{environment.region}.{cdk.Aws.URL_SUFFIX}"
        repository_arn = (
            f"arn:{cdk.Aws.PARTITION}:ecr:{environment.region}:{cdk.Aws.ACCOUNT_ID}:repository/{repository_name}"
        )
        self._image = f"{registry}/{repository_name}@{image_digest}"
        self.log_group = log_group(self, "LogGroup", log_group_name, environment=environment)

        read = {secret_key.secret for container in containers for secret_key in container.secrets.values()}
        self.roles = TaskRoles(
            self,
            "Roles",
            repository_arn=repository_arn,
            log_group_arn=self.log_group.attr_arn,
            secret_arns=[arn for name, arn in secret_arns.items() if name in read],
            exec_log_group_name=environment.log_group("exec") if exec_enabled else None,
        )
        definition = ecs.CfnTaskDefinition(
            self,
            "Definition",
            family=family,
            requires_compatibilities=["FARGATE"],
            network_mode="awsvpc",
            cpu=str(size.cpu_units),
            memory=str(size.memory_mib),
            runtime_platform=ecs.CfnTaskDefinition.RuntimePlatformProperty(
                operating_system_family="LINUX", cpu_architecture=environment.architecture
            ),
            execution_role_arn=self.roles.execution_role_arn,
            task_role_arn=self.roles.task_role_arn,
            volumes=[ecs.CfnTaskDefinition.VolumeProperty(name=SCRATCH_VOLUME)],
            container_definitions=[self._container(container) for container in containers],
        )
        accept(definition, "Configuration only: what is secret comes from Secrets Manager", "AwsSolutions-ECS2")
        self.arn = definition.ref

    def _value_from(self, secret_key: SecretKey) -> str:
        """Return the secret's ARN, or the reference to one JSON key of its current version.

        https://docs.aws.amazon.com/AmazonECS/latest/developerguide/secrets-envvar-secrets-manager.html
        """
        arn = self._secret_arns[secret_key.secret]
        return arn if secret_key.key is None else f"{arn}:{secret_key.key}::"

    def _container(self, container: Container) -> ecs.CfnTaskDefinition.ContainerDefinitionProperty:
        tasks = self._environment.tasks
        return ecs.CfnTaskDefinition.ContainerDefinitionProperty(
            name=container.name,
            image=self._image,
            essential=True,
            command=list(container.command) if container.command else None,
            port_mappings=[ecs.CfnTaskDefinition.PortMappingProperty(container_port=container.port, protocol="tcp")]
            if container.port
            else None,
            environment=[
                ecs.CfnTaskDefinition.KeyValuePairProperty(name=name, value=value)
                for name, value in container.environment.items()
            ],
            secrets=[
                ecs.CfnTaskDefinition.SecretProperty(name=name, value_from=self._value_from(secret_key))
                for name, secret_key in container.secrets.items()
            ]
            or None,
            health_check=ecs.CfnTaskDefinition.HealthCheckProperty(
                command=["CMD", *container.health_command],
                interval=tasks.health_interval_seconds,
                timeout=tasks.health_timeout_seconds,
                retries=3,
                start_period=tasks.grace_period_seconds,
            )
            if container.health_command
            else None,
            stop_timeout=tasks.stop_timeout_seconds,
            # The init process reaps zombies and forwards SIGTERM.
            linux_parameters=ecs.CfnTaskDefinition.LinuxParametersProperty(init_process_enabled=True),
            # ECS Exec's agent does not start on a read-only root:
            # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/ecs-exec.html
            readonly_root_filesystem=container.read_only_root and not self._exec_enabled,
            mount_points=[
                ecs.CfnTaskDefinition.MountPointProperty(
                    source_volume=SCRATCH_VOLUME,
                    container_path="/tmp",
                    read_only=False,
                )
            ],
            log_configuration=ecs.CfnTaskDefinition.LogConfigurationProperty(
                log_driver="awslogs",
                options={
                    "awslogs-group": self.log_group.ref,
                    "awslogs-region": self._environment.region,
                    "awslogs-stream-prefix": "ecs",
                    # A full buffer drops lines instead of blocking the application.
                    "mode": "non-blocking",
                },
            ),
        )


def digest_parameter(scope: Construct, name: str, what: str) -> cdk.CfnParameter:
    """Return the template parameter for an image's digest. It has no default, so each release must set it."""
    return cdk.CfnParameter(
        scope,
        name,
        type="String",
        description=f"Digest of the image of {what}",
        allowed_pattern="^sha256:[0-9a-f]{64}$",
        constraint_description="sha256: and 64 hexadecimal digits",
    )
