"""Composes the stacks of one environment, in an order without cycles."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import aws_cdk as cdk

from lib.config.environments import Environment
from lib.constructs.ecs_service_construct import Platform
from lib.constructs.service_environment import Addresses
from lib.stacks.alb_stack import AlbStack
from lib.stacks.budget_stack import BudgetStack
from lib.stacks.cache_stack import CacheStack
from lib.stacks.cicd_stack import CicdStack
from lib.stacks.database_stack import DatabaseStack
from lib.stacks.ecs_stack import EcsStack
from lib.stacks.monitoring_stack import MonitoringStack
from lib.stacks.network_stack import NetworkStack
from lib.stacks.registry_stack import RegistryStack
from lib.stacks.secrets_stack import SecretsStack
from lib.stacks.services_stack import ServicesStack

CONTEXT: Mapping[str, object] = {
    # With `weak` (the default of new apps), a stack could be deleted while other stacks use its outputs.
    "@aws-cdk/core:defaultCrossStackReferences": "strong",
    # It is implemented by a Lambda function that changes a default group which nothing here uses.
    "@aws-cdk/aws-ec2:restrictDefaultSecurityGroup": False,
    # CloudFormation applies stack tags to the resources, so the templates contain no tags.
    "@aws-cdk/core:explicitStackTags": True,
}


def compose(environment: Environment, output_folder: Path) -> cdk.App:
    """Return the app with all stacks of the environment. `app.synth()` writes the templates to `output_folder`.

    It needs no credentials and makes no AWS call: region, zones and CIDRs are settings, and the account is
    `AWS::AccountId`.
    """
    app = cdk.App(
        outdir=str(output_folder),
        analytics_reporting=False,
        tree_metadata=False,
        context=dict(CONTEXT),
    )
    network = NetworkStack(app, environment=environment)
    registry = RegistryStack(app, environment=environment)
    secrets = SecretsStack(app, environment=environment)
    database = DatabaseStack(app, environment=environment, network=network, secrets=secrets)
    cache = CacheStack(app, environment=environment, network=network, secrets=secrets)
    alb = AlbStack(app, environment=environment, network=network)
    ecs = EcsStack(app, environment=environment, network=network, secrets=secrets, database=database)
    monitoring = MonitoringStack(app, environment=environment, database=database, cache=cache, alb=alb, ecs=ecs)
    platform = Platform(
        vpc_id=network.vpc_id,
        subnet_ids=network.private_subnet_ids,
        security_group_id=network.ecs_security_group_id,
        listener_arn=alb.listener_arn,
        load_balancer_full_name=alb.load_balancer_full_name,
        cluster_name=ecs.cluster_name,
        namespace_id=ecs.namespace_id,
        alarm_topic_arn=monitoring.topic_arn,
        secret_arns={**secrets.arns, **database.secret_arns, **cache.secret_arns},
        addresses=Addresses(
            database_url=database.url,
            redis_url=cache.url,
            public_urls={service.name: alb.public_url(service) for service in environment.services},
        ),
    )
    services = [
        ServicesStack(app, environment=environment, platform=platform, number=number)
        for number in sorted({service.stack for service in environment.services})
    ]
    for stack in (ecs, *services):
        # The services refer to their repositories by name, so this dependency must be explicit.
        stack.add_stack_dependency(registry)
    CicdStack(app, environment=environment)
    if environment.monitoring.monthly_budget_usd is not None:
        BudgetStack(app, environment=environment, topic_arn=monitoring.topic_arn)
    return app
