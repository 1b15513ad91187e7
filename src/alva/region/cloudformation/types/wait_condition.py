"""AWS::CloudFormation::WaitCondition and its handle. MiniStack counts the signals, and serves the handle's URL."""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable
from functools import partial

from ministack.core.concurrency import run_reentrant
from ministack.services.cloudformation import wait_conditions

from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry
from alva.region.cloudformation.store import StackRecords

TYPE = "AWS::CloudFormation::WaitCondition"


def create(records: StackRecords, logical_id: str, properties: Properties, stack_name: str) -> Awaitable[Provisioned]:
    """Wait for the signals, on a thread: the step cannot be cancelled."""
    stack = records.stacks[stack_name]
    definition = stack["_operation"]["template"]["Resources"][logical_id]
    if "CreationPolicy" in definition:
        signal = definition["CreationPolicy"].get("ResourceSignal") or {}
        count, token = signal.get("Count"), wait_conditions.register_slot(stack["StackId"])
        seconds = wait_conditions.validate_resource_signal_timeout(signal.get("Timeout"), logical_id)
    else:
        count, token = properties.get("Count"), wait_conditions.token_from_url(properties.get("Handle"))
        if token is None or wait_conditions.handle_owner(token) != stack["StackId"]:
            raise HandlerFailed("Handle must be the Ref of a WaitConditionHandle of this stack", "InvalidRequest")
        seconds = wait_conditions.validate_timeout_seconds(properties.get("Timeout"), logical_id)
    count = wait_conditions.validate_count(count, logical_id)
    return _wait(token, stack["StackId"], stack_name, logical_id, count, seconds)


async def _wait(token: str, stack_id: str, stack_name: str, logical_id: str, count: int, seconds: float) -> Provisioned:
    arguments = (token, stack_id, stack_name, logical_id, TYPE, count, seconds)
    data = await run_reentrant(wait_conditions.wait_for, *arguments)
    physical_id = f"{stack_name}-{logical_id}-{uuid.uuid4().hex[:8]}"
    return physical_id, {"Data": json.dumps(data), "Id": physical_id}


def update(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    raise HandlerFailed(f"Update to resource type {TYPE} is not supported.", "NotUpdatable")


def delete(physical_id: str, properties: Properties) -> None:
    """Do nothing: only the handle has a record."""


def create_handle(records: StackRecords, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    url, token = wait_conditions.register_handle(records.stacks[stack_name]["StackId"])
    return url, {"Id": token}


def update_handle(physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG001
    return physical_id, {"Id": physical_id.rpartition("/")[2]}


def delete_handle(physical_id: str, properties: Properties) -> None:  # noqa: ARG001
    wait_conditions.discard_handle(physical_id)


def register(registry: Registry, records: StackRecords) -> None:
    """Register both types; a condition reads its operation in the stack's record."""
    registry.register(TYPE, Handlers(create=partial(create, records), update=update, delete=delete))
    handle = Handlers(create=partial(create_handle, records), update=update_handle, delete=delete_handle)
    registry.register(f"{TYPE}Handle", handle)
