"""A stack's events: each has a time of its own, later than that of the one before it.

AWS returns events "in reverse chronological order" (DescribeStackEvents), and clients tell new events from old ones by
their times. What happens here takes less than the millisecond that a time is told in: several would share one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ministack.services import cloudformation as records
from ministack.services.cloudformation import stacks

_record = stacks._add_event

SMALLEST_STEP = timedelta(milliseconds=1)


def add_event(
    stack_id: str,
    stack_name: str,
    logical_id: str,
    resource_type: str,
    status: str,
    reason: str = "",
    physical_id: str = "",
    detailed_status: str = "",
) -> None:
    """Record an event, now, or the smallest step after the stack's last one."""
    former = (records._stack_events.get(stack_id) or [{}])[-1].get("Timestamp", "")
    _record(stack_id, stack_name, logical_id, resource_type, status, reason, physical_id, detailed_status)
    event = records._stack_events[stack_id][-1]
    if event["Timestamp"] <= former:
        event["Timestamp"] = _after(former)


def _after(timestamp: str) -> str:
    later = datetime.fromisoformat(timestamp).astimezone(UTC) + SMALLEST_STEP
    return later.isoformat(timespec="milliseconds").replace("+00:00", "Z")
