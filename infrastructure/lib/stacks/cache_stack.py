"""Redis 7 on ElastiCache: private, with TLS and AUTH. It never evicts keys, because it contains the queue."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_elasticache as elasticache
from constructs import Construct

from lib.config.environments import Environment
from lib.config.secrets import REDIS_URLS, RedisUrl
from lib.config.service import queries_of
from lib.constructs.accepted_findings import accept
from lib.constructs.log_group import log_group
from lib.constructs.url_secret import password_reference, url_secret
from lib.stacks.environment_stack import EnvironmentStack
from lib.stacks.network_stack import REDIS_PORT, NetworkStack
from lib.stacks.secrets_stack import SecretsStack


class CacheStack(EnvironmentStack):
    """Attributes: `url` (without the AUTH token), `replication_group_id`, and `secret_arns` of the full URLs."""

    def __init__(
        self, scope: Construct, *, environment: Environment, network: NetworkStack, secrets: SecretsStack
    ) -> None:
        super().__init__(scope, "cache", environment=environment, description="Redis")
        settings = environment.cache
        self.replication_group_id = f"{environment.prefix}-redis"

        subnet_group = elasticache.CfnSubnetGroup(
            self,
            "SubnetGroup",
            cache_subnet_group_name=self.replication_group_id,
            description="Private subnets",
            subnet_ids=network.private_subnet_ids,
        )
        parameter_group = elasticache.CfnParameterGroup(
            self,
            "ParameterGroup",
            cache_parameter_group_family="redis7",
            description="Never evict: BullMQ loses jobs when a key goes missing",
            properties={"maxmemory-policy": "noeviction"},
        )
        engine_log = log_group(
            self, "LogGroup", f"/aws/elasticache/{self.replication_group_id}", environment=environment
        )

        replicated = settings.replicas > 0
        # TLS and AUTH require a replication group, which can have one node.
        self.replication_group = elasticache.CfnReplicationGroup(
            self,
            "ReplicationGroup",
            replication_group_id=self.replication_group_id,
            replication_group_description=f"Queue and rate limits of {environment.prefix}",
            engine="redis",
            engine_version="7.1",
            auto_minor_version_upgrade=True,
            cache_node_type=settings.node_type,
            num_cache_clusters=1 + settings.replicas,
            automatic_failover_enabled=replicated,
            multi_az_enabled=replicated,
            port=REDIS_PORT,
            cache_parameter_group_name=parameter_group.ref,
            cache_subnet_group_name=subnet_group.ref,
            security_group_ids=[network.redis_security_group_id],
            at_rest_encryption_enabled=True,
            transit_encryption_enabled=True,
            transit_encryption_mode="required",
            auth_token=password_reference(secrets.database_secret_arn),
            preferred_maintenance_window="sun:05:30-sun:06:30",
            snapshot_retention_limit=settings.snapshot_retention_days,
            snapshot_window="02:00-03:00" if settings.snapshot_retention_days else None,
            log_delivery_configurations=[
                elasticache.CfnReplicationGroup.LogDeliveryConfigurationRequestProperty(
                    log_type=log_type,
                    log_format="json",
                    destination_type="cloudwatch-logs",
                    destination_details=elasticache.CfnReplicationGroup.DestinationDetailsProperty(
                        cloud_watch_logs_details=elasticache.CfnReplicationGroup.CloudWatchLogsDestinationDetailsProperty(
                            log_group=engine_log.ref
                        )
                    ),
                )
                for log_type in ("slow-log", "engine-log")
            ],
        )
        self.replication_group.cfn_options.deletion_policy = cdk.CfnDeletionPolicy.DELETE
        if settings.snapshot_retention_days:
            self.replication_group.cfn_options.deletion_policy = cdk.CfnDeletionPolicy.SNAPSHOT
        self.replication_group.cfn_options.update_replace_policy = self.replication_group.cfn_options.deletion_policy

        accept(
            self.replication_group,
            "The security group controls access; another port would not hide it inside the VPC",
            "AwsSolutions-AEC5",
        )
        if not replicated:
            accept(
                self.replication_group,
                "A replica doubles the price; staging's queue can be filled again (setting: cache.replicas)",
                "AwsSolutions-AEC4",
            )

        self.keep_exported(
            self.replication_group.attr_primary_end_point_address, self.replication_group.attr_primary_end_point_port
        )
        host = self.replication_group.attr_primary_end_point_address
        place = f"{host}:{self.replication_group.attr_primary_end_point_port}/0"
        self.url = f"rediss://{place}"
        self.secret_arns: dict[str, str] = {}
        if queries := queries_of(environment.services, RedisUrl):
            urls = url_secret(
                self,
                REDIS_URLS,
                environment=environment,
                queries=queries,
                url=f"rediss://:{password_reference(secrets.database_secret_arn)}@{place}",
            )
            self.keep_exported(urls.ref)
            self.secret_arns[REDIS_URLS.name] = urls.ref
