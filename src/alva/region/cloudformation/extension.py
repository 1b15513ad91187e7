"""Puts the region's CloudFormation into MiniStack: operations, resource types, corrections.

Every name of MiniStack that is replaced is listed here; `tests/region/control_plane/test_ministack_contract.py` fails
when one of them is gone or has another signature.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ministack.services import cloudformation as records
from ministack.services.cloudformation import changesets, handlers, provisioners, stacks

from alva.region import query_definitions, scaling, service_table
from alva.region.cloudformation import (
    context,
    deletion,
    deployment,
    drift,
    events,
    imports,
    provisioning,
    registry,
    requests,
    rollback,
    schemas,
)
from alva.region.cloudformation.types import register_all

logger = logging.getLogger("alva.cloudformation")

# MiniStack's name -> ours, in every module of it that imported the name.
REPLACED: dict[str, Callable[..., Any]] = {
    "_add_event": events.add_event,
    "_deploy_stack_async": deployment.deploy,
    "_roll_back_operation": rollback.roll_back,
    "_delete_stack_async": deletion.delete_stack,
    "_continue_update_rollback_async": rollback.continue_rollback,
}
# The namespaces whose types MiniStack provides here; another type is refused by name before anything is touched.
OFFERED_NAMESPACES = frozenset({
    "CertificateManager", "CloudFormation", "CloudWatch", "EC2", "ECR", "ECS", "ElastiCache", "ElasticLoadBalancingV2",
    "Events", "IAM", "KMS", "Logs", "RDS", "Route53", "S3", "SNS", "SQS", "SSM", "SecretsManager", "ServiceDiscovery",
    "WAFv2",
})  # fmt: skip
# Of these, what would be a record without the thing behind it.
WITHHELD = frozenset({
    "AWS::RDS::DBCluster", "AWS::ElastiCache::CacheCluster", "AWS::ElastiCache::User", "AWS::ElastiCache::UserGroup",
    "AWS::CloudFormation::CustomResource", "AWS::CloudFormation::Stack", "AWS::EC2::Instance",
})  # fmt: skip
_background: set[asyncio.Task[None]] = set()


def install(stacks_changed: Callable[[], None]) -> None:
    """Replace the stack operations and register the types that belong to no component.

    `stacks_changed` is called after every step of an operation.
    """
    context.stacks_changed = stacks_changed
    for name, function in REPLACED.items():
        for module in (stacks, handlers, changesets):
            if hasattr(module, name):
                setattr(module, name, function)
    service_table.add_service("application-autoscaling", scaling, "AnyScaleFrontendService")
    query_definitions.install()
    register_all()
    imports.install()
    requests.install()
    drift.install()


def finish_install() -> None:
    """Make the registered types, the components' too, known to MiniStack. Called after every component's `install`."""
    for type_name in list(provisioners._RESOURCE_HANDLERS):
        if type_name.split("::")[1] not in OFFERED_NAMESPACES or type_name in WITHHELD:
            del provisioners._RESOURCE_HANDLERS[type_name]
    for type_name in schemas.all_schemas():
        provisioners._REPLACING_PROPERTIES.setdefault(type_name, schemas.create_only(type_name))
    for type_name, type_handlers in registry.registered.items():
        ours = provisioning.handler_entry(type_name, type_handlers)
        theirs = provisioners._RESOURCE_HANDLERS.get(type_name, {})
        kept = {key: theirs[key] for key in ("import",) if key in theirs}
        provisioners._RESOURCE_HANDLERS[type_name] = {**kept, **ours}
        if type_handlers.replacing_properties:
            provisioners._REPLACING_PROPERTIES[type_name] = type_handlers.replacing_properties
    for type_name in imports.IMPORTABLE:
        provisioners._RESOURCE_HANDLERS[type_name]["import"] = imports.import_handler(type_name)


def resume_interrupted() -> None:
    """Bring every stack whose operation was cut off (the region was killed) to an end, as AWS would.

    A creation or an update is rolled back, a deletion or a rollback is finished.
    """
    for (_, _, name), stack in list(records._stacks._data.items()):
        status = stack.get("StackStatus", "")
        if not status.endswith("_IN_PROGRESS") or status == "REVIEW_IN_PROGRESS":
            continue
        logger.warning("stack %s was left %s; bringing it to an end", name, status)
        operation = stack.get("_operation")
        if status == "DELETE_IN_PROGRESS":
            work = deletion.delete_stack(name, stack["StackId"])
        elif operation is not None:
            work = rollback.roll_back(name, stack["StackId"], stack, operation, "The local region was stopped.")
        else:
            stack["StackStatus"] = status.replace("_IN_PROGRESS", "_FAILED")
            continue
        with stacks._stack_region_context(stack):
            task = asyncio.get_running_loop().create_task(work)
        _background.add(task)
        task.add_done_callback(_background.discard)
