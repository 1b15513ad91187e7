"""A stack's events. Each event is later than the one before it.

AWS returns events "in reverse chronological order" (DescribeStackEvents), and clients find new events by their times.
Here several events can happen within one millisecond, the precision of the times, so each gets a distinct time.
"""

from __future__ import annotations

import uuid
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta

from alva.region.cloudformation.store import Stack, StackRecords, now

SMALLEST_STEP = timedelta(milliseconds=1)
client_request_token: ContextVar[str] = ContextVar("client_request_token", default="")
"""The ClientRequestToken of the request that started the operation; all events of the operation have it."""


def add(
    records: StackRecords,
    stack: Stack,
    logical_id: str,
    resource_type: str,
    status: str,
    reason: str = "",
    physical_id: str = "",
    detailed_status: str = "",
) -> None:
    """Record an event at the present time, or one millisecond after the stack's last event."""
    recorded = records.events.setdefault(stack["StackId"], [])
    former = recorded[-1]["Timestamp"] if recorded else ""
    timestamp = now()
    event = {
        "StackId": stack["StackId"],
        "StackName": stack["StackName"],
        "EventId": str(uuid.uuid4()),
        "LogicalResourceId": logical_id,
        "PhysicalResourceId": physical_id,
        "ResourceType": resource_type,
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
        "Timestamp": timestamp if timestamp > former else _after(former),
        "ClientRequestToken": client_request_token.get(),
        "DetailedStatus": detailed_status,
    }
    recorded.append({key: value for key, value in event.items() if value or key == "PhysicalResourceId"})


def _after(timestamp: str) -> str:
    later = datetime.fromisoformat(timestamp).astimezone(UTC) + SMALLEST_STEP
    return later.isoformat(timespec="milliseconds").replace("+00:00", "Z")
