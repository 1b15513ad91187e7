"""PostgreSQL 16 on RDS: private, encrypted, TLS only."""

from __future__ import annotations

import aws_cdk as cdk
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from lib.config.environments import Environment
from lib.config.secrets import DATABASE_URLS, DatabaseUrl
from lib.config.service import queries_of
from lib.constructs.accepted_findings import accept
from lib.constructs.log_group import log_group
from lib.constructs.night_stop import NightStop
from lib.constructs.url_secret import password_reference, url_secret
from lib.stacks.environment_stack import EnvironmentStack
from lib.stacks.network_stack import POSTGRESQL_PORT, NetworkStack
from lib.stacks.secrets_stack import DATABASE_USER, SecretsStack

DATABASE_NAME = "alva"
GIB = 1024**3

# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/Concepts.DBInstanceClass.Summary.html
CLASS_MEMORY_GIB = {
    "db.t3.micro": 1,
    "db.t3.small": 2,
    "db.t3.medium": 4,
    "db.t3.large": 8,
    "db.t4g.micro": 1,
    "db.t4g.small": 2,
    "db.t4g.medium": 4,
    "db.t4g.large": 8,
    "db.m6g.large": 8,
    "db.m6g.xlarge": 16,
    "db.m7g.large": 8,
    "db.m7g.xlarge": 16,
    "db.r6g.large": 16,
    "db.r7g.large": 16,
}
EXPORTED_LOGS = ("postgresql", "upgrade")

PARAMETERS = {
    # The default since version 15. It is set explicitly because the clients depend on it.
    "rds.force_ssl": "1",
    "log_min_duration_statement": "1000",
    "log_connections": "1",
    "log_disconnections": "1",
    "log_lock_waits": "1",
    # The locks of an idle transaction would block a migration.
    "idle_in_transaction_session_timeout": "60000",
}


def memory_bytes(instance_class: str) -> int:
    """Return the memory of an instance class."""
    return CLASS_MEMORY_GIB[instance_class] * GIB


def max_connections(instance_class: str) -> int:
    """Return the `max_connections` of the parameter group for this class: 78 for db.t3.micro.

    RDS's default is DBInstanceClassMemory / 9531392. DBInstanceClassMemory is the class's memory without the share of
    the operating system and RDS: 181 connections were measured on db.t4g.small (2 GiB) and 413 on db.t2.medium (4 GiB).
    Seven tenths of the value for the nominal memory is below every measured figure.
    https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/CHAP_Limits.html#RDS_Limits.MaxConnections
    """
    return min(memory_bytes(instance_class) // 9_531_392 * 7 // 10, 5000)


class DatabaseStack(EnvironmentStack):
    """Attributes: `url` (without the password), `instance_identifier`, and `secret_arns` of the full URLs."""

    def __init__(
        self, scope: Construct, *, environment: Environment, network: NetworkStack, secrets: SecretsStack
    ) -> None:
        super().__init__(scope, "database", environment=environment, description="PostgreSQL")
        settings = environment.database
        self.instance_identifier = f"{environment.prefix}-database"

        subnet_group = rds.CfnDBSubnetGroup(
            self,
            "SubnetGroup",
            db_subnet_group_name=self.instance_identifier,
            db_subnet_group_description="Private subnets",
            subnet_ids=network.private_subnet_ids,
        )
        parameter_group = rds.CfnDBParameterGroup(
            self,
            "ParameterGroup",
            db_parameter_group_name=f"{self.instance_identifier}-postgres16",
            family="postgres16",
            description="TLS only, slow statements logged",
            parameters={**PARAMETERS, "max_connections": str(max_connections(settings.instance_class))},
        )
        log_groups = [
            # RDS creates missing log groups without a retention, so they must exist first.
            log_group(
                self,
                f"{each.capitalize()}LogGroup",
                f"/aws/rds/instance/{self.instance_identifier}/{each}",
                environment=environment,
            )
            for each in EXPORTED_LOGS
        ]

        secret = secrets.database_secret_arn
        self.instance = rds.CfnDBInstance(
            self,
            "Instance",
            db_instance_identifier=self.instance_identifier,
            engine="postgres",
            engine_version="16",
            auto_minor_version_upgrade=True,
            db_instance_class=settings.instance_class,
            allocated_storage=str(settings.storage_gib),
            storage_type=settings.storage_type,
            # An instance from a snapshot has its encryption, user and databases. The template must not set them.
            db_snapshot_identifier=settings.snapshot,
            storage_encrypted=True if settings.snapshot is None else None,
            multi_az=settings.multi_az,
            db_name=DATABASE_NAME if settings.snapshot is None else None,
            port=str(POSTGRESQL_PORT),
            master_username=DATABASE_USER if settings.snapshot is None else None,
            master_user_password=password_reference(secret),
            db_subnet_group_name=subnet_group.ref,
            db_parameter_group_name=parameter_group.ref,
            vpc_security_groups=[network.rds_security_group_id],
            publicly_accessible=False,
            ca_certificate_identifier="rds-ca-rsa2048-g1",
            backup_retention_period=settings.backup_retention_days,
            preferred_backup_window="03:00-04:00",
            preferred_maintenance_window="sun:04:30-sun:05:30",
            copy_tags_to_snapshot=True,
            delete_automated_backups=not environment.keep_data,
            deletion_protection=settings.deletion_protection,
            enable_cloudwatch_logs_exports=list(EXPORTED_LOGS),
        )
        self.instance.cfn_options.deletion_policy = cdk.CfnDeletionPolicy.SNAPSHOT
        self.instance.cfn_options.update_replace_policy = cdk.CfnDeletionPolicy.SNAPSHOT
        for each in log_groups:
            self.instance.add_resource_dependency(each)
        self._accept_findings()

        # Adds host, port, dbname and engine to the secret, for operators and for rotation.
        secretsmanager.CfnSecretTargetAttachment(
            self,
            "SecretAttachment",
            secret_id=secret,
            target_id=self.instance.ref,
            target_type="AWS::RDS::DBInstance",
        )
        if environment.working_hours is not None:
            NightStop(
                self,
                "NightStop",
                hours=environment.working_hours,
                prefix=environment.prefix,
                instance_identifier=self.instance_identifier,
                instance_arn=self.instance.attr_db_instance_arn,
            )
        self.keep_exported(self.instance.attr_endpoint_address, self.instance.attr_endpoint_port)
        place = f"{self.instance.attr_endpoint_address}:{self.instance.attr_endpoint_port}/{DATABASE_NAME}"
        self.url = f"postgresql://{DATABASE_USER}@{place}?sslmode=verify-full"
        self.secret_arns: dict[str, str] = {}
        if queries := queries_of(environment.services, DatabaseUrl):
            urls = url_secret(
                self,
                DATABASE_URLS,
                environment=environment,
                queries=queries,
                url=f"postgresql://{DATABASE_USER}:{password_reference(secret)}@{place}",
            )
            self.keep_exported(urls.ref)
            self.secret_arns[DATABASE_URLS.name] = urls.ref

    def _accept_findings(self) -> None:
        settings = self.environment_settings.database
        accept(
            self.instance,
            "The security group controls access; another port would not hide it inside the VPC",
            "AwsSolutions-RDS11",
        )
        accept(
            self.instance,
            "Tasks get the generated password from Secrets Manager; IAM tokens last 15 minutes, connection "
            "pools live longer",
            "CKV_AWS_161",
        )
        accept(
            self.instance,
            "The alarms need CloudWatch's metrics only, not those of Enhanced Monitoring",
            "CKV_AWS_118",
        )
        accept(
            self.instance,
            "A major version alone lets AWS choose the minor one, and automatic upgrades then cause no drift",
            "W3691",
        )
        if settings.snapshot is not None:
            accept(
                self.instance,
                "A restored instance has the encryption of its snapshot, which comes from an encrypted instance of "
                "this environment",
                "AwsSolutions-RDS2",
                "CKV_AWS_16",
            )
        if not settings.multi_az:
            accept(
                self.instance,
                "A standby doubles the price; staging is restored from its backup (setting: database.multi_az)",
                "AwsSolutions-RDS3",
                "CKV_AWS_157",
            )
        if not settings.deletion_protection:
            accept(
                self.instance,
                "Staging can be destroyed, with a final snapshot (setting: database.deletion_protection)",
                "AwsSolutions-RDS10",
            )
