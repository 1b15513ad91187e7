"""Replaces MiniStack's CloudFormation: the API, the operations, the resource types."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable

from ministack import app as ministack_app
from ministack.core.responses import set_request_account_id, set_request_region
from ministack.services.cloudformation import provisioners

from alva.region import service_table
from alva.region.background import Background
from alva.region.cloudformation import (
    change_sets,
    drift_detection,
    imports,
    operations,
    read,
    schemas,
    store,
    submissions,
)
from alva.region.cloudformation.operations import Operations
from alva.region.cloudformation.provisioning import Provisioner
from alva.region.cloudformation.registry import Registry
from alva.region.cloudformation.types import register_all
from alva.region.cloudformation.wire import Action, Wire
from alva.region.scaling import Scaling

logger = logging.getLogger("alva.cloudformation")

# Resource types of these namespaces are MiniStack's. Other types are refused by name before anything is created.
OFFERED_NAMESPACES = frozenset({
    "CDK", "CertificateManager", "CloudFormation", "CloudWatch", "EC2", "ECR", "ECS", "ElastiCache",
    "ElasticLoadBalancingV2", "Events", "IAM", "KMS", "Logs", "RDS", "Route53", "S3", "SNS", "SQS", "SSM",
    "SecretsManager", "ServiceDiscovery", "WAFv2",
})  # fmt: skip
# Types of these namespaces for which MiniStack would only make a record.
WITHHELD = frozenset({
    "AWS::RDS::DBCluster", "AWS::ElastiCache::CacheCluster", "AWS::ElastiCache::User", "AWS::ElastiCache::UserGroup",
    "AWS::CloudFormation::CustomResource", "AWS::CloudFormation::Stack", "AWS::EC2::Instance",
})  # fmt: skip


def actions(begun: Operations) -> dict[str, Action]:
    """The actions of the region; SignalResource is MiniStack's."""
    sets = change_sets.ChangeSets(begun)
    return {
        "CancelUpdateStack": begun.cancel_update_stack,
        "ContinueUpdateRollback": begun.continue_update_rollback,
        "CreateChangeSet": sets.create,
        "CreateStack": begun.create_stack,
        "DeleteChangeSet": change_sets.delete,
        "DeleteStack": begun.delete_stack,
        "DescribeChangeSet": change_sets.describe,
        "DescribeEvents": read.describe_events,
        "DescribeStackDriftDetectionStatus": drift_detection.describe_stack_drift_detection_status,
        "DescribeStackEvents": read.describe_stack_events,
        "DescribeStackResource": read.describe_stack_resource,
        "DescribeStackResourceDrifts": drift_detection.describe_stack_resource_drifts,
        "DescribeStackResources": read.describe_stack_resources,
        "DescribeStacks": read.describe_stacks,
        "DetectStackDrift": drift_detection.detect_stack_drift,
        "DetectStackResourceDrift": drift_detection.detect_stack_resource_drift,
        "ExecuteChangeSet": sets.execute,
        "GetStackPolicy": operations.get_stack_policy,
        "GetTemplate": read.get_template,
        "GetTemplateSummary": submissions.get_template_summary,
        "ListChangeSets": change_sets.list_change_sets,
        "ListExports": read.list_exports,
        "ListImports": operations.list_imports,
        "ListStackResources": read.list_stack_resources,
        "ListStacks": read.list_stacks,
        "RollbackStack": begun.rollback_stack,
        "SetStackPolicy": operations.set_stack_policy,
        "UpdateStack": begun.update_stack,
        "UpdateTerminationProtection": operations.update_termination_protection,
        "ValidateTemplate": submissions.validate_template,
    }


def install(registry: Registry, stacks_changed: Callable[[], None], background: Background) -> Operations:
    """Serve CloudFormation, and register the types that belong to no component.

    `stacks_changed` is called after every step of an operation.
    """
    begun = Operations(background, Provisioner(registry.types, stacks_changed))
    others = ministack_app.SERVICE_HANDLERS["cloudformation"]
    ministack_app.SERVICE_HANDLERS["cloudformation"] = Wire(actions(begun), others).handle_request
    service_table.add_service("application-autoscaling", Scaling(), "AnyScaleFrontendService")
    register_all(registry)
    imports.install()
    return begun


def finish_install(registry: Registry) -> None:
    """Register all types with MiniStack, including the components'. Called after every component's `install`."""
    for type_name in list(provisioners._RESOURCE_HANDLERS):
        if type_name.split("::")[1] not in OFFERED_NAMESPACES or type_name in WITHHELD:
            del provisioners._RESOURCE_HANDLERS[type_name]
    for type_name in schemas.all_schemas():
        provisioners._REPLACING_PROPERTIES.setdefault(type_name, schemas.create_only(type_name))
    for type_name, type_handlers in registry.types.items():
        # MiniStack needs an entry for the type but does not use it: the stack operations call our handlers.
        theirs = provisioners._RESOURCE_HANDLERS.get(type_name, {})
        provisioners._RESOURCE_HANDLERS[type_name] = {key: theirs[key] for key in ("import",) if key in theirs}
        if type_handlers.replacing_properties:
            provisioners._REPLACING_PROPERTIES[type_name] = type_handlers.replacing_properties
    for type_name in imports.IMPORTABLE:
        provisioners._RESOURCE_HANDLERS[type_name]["import"] = imports.import_handler(type_name)


def resume_interrupted(begun: Operations) -> None:
    """Finish every stack operation that was interrupted because the region was killed."""

    def resume(account_id: str, region: str) -> None:
        set_request_account_id(account_id)
        set_request_region(region)
        for stack in begun.resume_interrupted():
            logger.warning("the operation on stack %s was interrupted; finishing it", stack["StackName"])

    for account_id, region in store.scopes():
        contextvars.copy_context().run(resume, account_id, region)
