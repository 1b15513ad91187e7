"""Replaces MiniStack's CloudFormation: the API, the operations, the resource types."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable

from ministack import app as ministack_app
from ministack.core.responses import set_request_account_id, set_request_region

from alva.region.background import Background
from alva.region.cloudformation import (
    change_sets,
    drift_readers,
    operations,
    read,
    store,
    submissions,
)
from alva.region.cloudformation.drift_detection import DriftDetection
from alva.region.cloudformation.operations import Operations
from alva.region.cloudformation.provisioning import Provisioner
from alva.region.cloudformation.registry import Registry
from alva.region.cloudformation.types import register_all
from alva.region.cloudformation.wire import Action, Wire
from alva.region.scaling import Scaling
from alva.region.service_table import ServiceTable

logger = logging.getLogger("alva.cloudformation")


def actions(begun: Operations) -> dict[str, Action]:
    """The actions of the region."""
    sets = change_sets.ChangeSets(begun)
    detection = DriftDetection(begun.provisioner.drift)
    return {
        "CancelUpdateStack": begun.cancel_update_stack,
        "ContinueUpdateRollback": begun.continue_update_rollback,
        "CreateChangeSet": sets.create,
        "CreateStack": begun.create_stack,
        "DeleteChangeSet": change_sets.delete,
        "DeleteStack": begun.delete_stack,
        "DescribeChangeSet": change_sets.describe,
        "DescribeEvents": read.describe_events,
        "DescribeStackDriftDetectionStatus": detection.describe_stack_drift_detection_status,
        "DescribeStackEvents": read.describe_stack_events,
        "DescribeStackResource": read.describe_stack_resource,
        "DescribeStackResourceDrifts": detection.describe_stack_resource_drifts,
        "DescribeStackResources": read.describe_stack_resources,
        "DescribeStacks": read.describe_stacks,
        "DetectStackDrift": detection.detect_stack_drift,
        "DetectStackResourceDrift": detection.detect_stack_resource_drift,
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
        "SignalResource": operations.signal_resource,
        "UpdateStack": begun.update_stack,
        "UpdateTerminationProtection": operations.update_termination_protection,
        "ValidateTemplate": lambda request: submissions.validate_template(begun.provisioner.known_types, request),
    }


def install(
    registry: Registry,
    services: ServiceTable,
    stacks_changed: Callable[[], None],
    operation_ended: Callable[[], None],
    background: Background,
) -> Operations:
    """Serve CloudFormation, and register the types that belong to no component.

    `stacks_changed` is called after every step of an operation, and `operation_ended` at its end.
    """
    begun = Operations(background, Provisioner(registry, stacks_changed), operation_ended)
    ministack_app.SERVICE_HANDLERS["cloudformation"] = Wire(actions(begun)).handle_request
    services.add_state("cloudformation", store)
    services.add("application-autoscaling", Scaling(), "AnyScaleFrontendService")
    register_all(registry)
    drift_readers.register(registry)
    return begun


def resume_interrupted(begun: Operations) -> None:
    """Finish every stack operation that was interrupted because the region was killed."""

    def resume(account_id: str, region: str) -> None:
        set_request_account_id(account_id)
        set_request_region(region)
        for stack in begun.resume_interrupted():
            logger.warning("the operation on stack %s was interrupted; finishing it", stack["StackName"])

    for account_id, region in store.scopes():
        contextvars.copy_context().run(resume, account_id, region)
