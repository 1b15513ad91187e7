"""The cluster, the private DNS namespace, and the task definition of the migration."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_ecs as ecs
from aws_cdk import aws_servicediscovery as servicediscovery
from constructs import Construct

from lib.config.environments import Environment
from lib.config.secrets import DATABASE_URLS, SecretKey
from lib.config.services import MIGRATION
from lib.constructs.accepted_findings import accept
from lib.constructs.log_group import log_group
from lib.constructs.service_environment import common_variables
from lib.constructs.task_definition import Container, TaskDefinition, TaskSize, digest_parameter
from lib.stacks.database_stack import DatabaseStack
from lib.stacks.environment_stack import EnvironmentStack
from lib.stacks.network_stack import NetworkStack
from lib.stacks.secrets_stack import SecretsStack

DATABASE_URL = "{database_url}"


class EcsStack(EnvironmentStack):
    """Attributes: `cluster_name` and `namespace_id`."""

    def __init__(
        self,
        scope: Construct,
        *,
        environment: Environment,
        network: NetworkStack,
        secrets: SecretsStack,
        database: DatabaseStack,
    ) -> None:
        super().__init__(scope, "ecs", environment=environment, description="Cluster, namespace and migration task")
        tasks = environment.tasks
        cluster = ecs.CfnCluster(
            self,
            "Cluster",
            cluster_name=f"{environment.prefix}-cluster",
            configuration=self._exec_logging() if tasks.exec_enabled else None,
            capacity_providers=["FARGATE", "FARGATE_SPOT"] if tasks.spot else ["FARGATE"],
            default_capacity_provider_strategy=[
                ecs.CfnCluster.CapacityProviderStrategyItemProperty(capacity_provider="FARGATE", weight=1)
            ],
            cluster_settings=[
                ecs.CfnCluster.ClusterSettingsProperty(
                    name="containerInsights", value="enabled" if tasks.container_insights else "disabled"
                )
            ],
        )
        if not tasks.container_insights:
            accept(
                cluster,
                "Container Insights cost about $31 a month for four services, and no alarm uses them (setting: "
                "tasks.container_insights)",
                "AwsSolutions-ECS4",
                "CKV_AWS_65",
            )
        self.cluster_name = cluster.ref

        namespace = servicediscovery.CfnPrivateDnsNamespace(
            self,
            "Namespace",
            name=environment.namespace,
            vpc=network.vpc_id,
            description="Where services find each other by name",
        )
        self.namespace_id = namespace.attr_id

        migrated = environment.service(MIGRATION.service)
        digest = digest_parameter(self, MIGRATION.image_parameter, "the migration")
        migration = TaskDefinition(
            self,
            "Migration",
            environment=environment,
            family=MIGRATION.family,
            size=TaskSize(cpu_units=MIGRATION.cpu_units, memory_mib=MIGRATION.memory_mib),
            containers=[
                Container(
                    name=MIGRATION.container,
                    command=MIGRATION.command,
                    environment={
                        **common_variables(environment, image_digest=digest.value_as_string),
                        **{name: database.url for name, value in migrated.environment.items() if value == DATABASE_URL},
                    },
                    secrets={name: key for name, key in migrated.secret_keys.items() if _is_the_databases(name, key)},
                )
            ],
            repository_name=migrated.service_name,
            image_digest=digest.value_as_string,
            secret_arns={**secrets.arns, **database.secret_arns},
            log_group_name=environment.log_group("migrations"),
        )
        self.keep_exported(self.cluster_name, self.namespace_id)
        cdk.CfnOutput(self, "ClusterName", value=self.cluster_name)
        cdk.CfnOutput(self, "MigrationTaskDefinitionArn", value=migration.arn)

    def _exec_logging(self) -> ecs.CfnCluster.ClusterConfigurationProperty:
        """Log the sessions of ECS Exec."""
        environment = self.environment_settings
        exec_log = log_group(self, "ExecLogGroup", environment.log_group("exec"), environment=environment)
        return ecs.CfnCluster.ClusterConfigurationProperty(
            execute_command_configuration=ecs.CfnCluster.ExecuteCommandConfigurationProperty(
                logging="OVERRIDE",
                log_configuration=ecs.CfnCluster.ExecuteCommandLogConfigurationProperty(
                    cloud_watch_log_group_name=exec_log.ref
                ),
            )
        )


def _is_the_databases(variable: str, key: SecretKey) -> bool:
    """Return whether a service's secret is its database credential: a URL, or a variable of libpq."""
    return key.secret == DATABASE_URLS.name or variable == "PGPASSWORD"
