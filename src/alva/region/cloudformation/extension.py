"""Replaces MiniStack's CloudFormation: the API, the operations, the resource types."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable
from functools import partial

from ministack import app as ministack_app
from ministack.core.responses import set_request_account_id, set_request_region

from alva.region.background import Background
from alva.region.cloudformation import drift_readers, submissions
from alva.region.cloudformation.change_sets import ChangeSets
from alva.region.cloudformation.drift_detection import DriftDetection
from alva.region.cloudformation.operations import Operations
from alva.region.cloudformation.provisioning import Provisioner
from alva.region.cloudformation.read import StackDescriptions
from alva.region.cloudformation.registry import Registry
from alva.region.cloudformation.store import StackRecords
from alva.region.cloudformation.types import register_all
from alva.region.cloudformation.wire import Action, Wire
from alva.region.scaling import Scaling
from alva.region.service_table import ServiceTable

logger = logging.getLogger("alva.cloudformation")


def actions(begun: Operations) -> dict[str, Action]:
    """The actions of the region."""
    sets = ChangeSets(begun)
    detection = DriftDetection(begun.records, begun.provisioner.drift)
    stacks = StackDescriptions(begun.records)
    return {
        "CancelUpdateStack": begun.cancel_update_stack,
        "ContinueUpdateRollback": begun.continue_update_rollback,
        "CreateChangeSet": sets.create,
        "CreateStack": begun.create_stack,
        "DeleteChangeSet": sets.delete,
        "DeleteStack": begun.delete_stack,
        "DescribeChangeSet": sets.describe,
        "DescribeEvents": stacks.describe_events,
        "DescribeStackDriftDetectionStatus": detection.describe_stack_drift_detection_status,
        "DescribeStackEvents": stacks.describe_stack_events,
        "DescribeStackResource": stacks.describe_stack_resource,
        "DescribeStackResourceDrifts": detection.describe_stack_resource_drifts,
        "DescribeStackResources": stacks.describe_stack_resources,
        "DescribeStacks": stacks.describe_stacks,
        "DetectStackDrift": detection.detect_stack_drift,
        "DetectStackResourceDrift": detection.detect_stack_resource_drift,
        "ExecuteChangeSet": sets.execute,
        "GetStackPolicy": begun.get_stack_policy,
        "GetTemplate": stacks.get_template,
        "GetTemplateSummary": partial(submissions.get_template_summary, begun.records),
        "ListChangeSets": sets.list_change_sets,
        "ListExports": stacks.list_exports,
        "ListImports": begun.list_imports,
        "ListStackResources": stacks.list_stack_resources,
        "ListStacks": stacks.list_stacks,
        "RollbackStack": begun.rollback_stack,
        "SetStackPolicy": begun.set_stack_policy,
        "SignalResource": begun.signal_resource,
        "UpdateStack": begun.update_stack,
        "UpdateTerminationProtection": begun.update_termination_protection,
        "ValidateTemplate": lambda request: submissions.validate_template(
            begun.records, begun.provisioner.known_types, request
        ),
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
    records = StackRecords()
    begun = Operations(background, records, Provisioner(registry, stacks_changed), operation_ended)
    ministack_app.SERVICE_HANDLERS["cloudformation"] = Wire(actions(begun)).handle_request
    services.add_state("cloudformation", records)
    services.add("application-autoscaling", Scaling(), "AnyScaleFrontendService")
    register_all(registry, records)
    drift_readers.register(registry, records)
    return begun


def resume_interrupted(begun: Operations) -> None:
    """Finish every stack operation that was interrupted because the region was killed."""

    def resume(account_id: str, region: str) -> None:
        set_request_account_id(account_id)
        set_request_region(region)
        for stack in begun.resume_interrupted():
            logger.warning("the operation on stack %s was interrupted; finishing it", stack["StackName"])

    for account_id, region in begun.records.scopes():
        contextvars.copy_context().run(resume, account_id, region)
