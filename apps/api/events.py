"""Server-sent events about a plan's progress. They are read from PostgreSQL; the feed only signals a change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from api.queue import ChangeFeed
from api.schemas import IN_THE_MAKING, PlanProgress
from api.service import ApiService
from api.tables import Plan

LOOK_SECONDS = 2.0
"""How long to wait for a signal before PostgreSQL is read again."""
COMMENT_SECONDS = 15.0
"""Less than the load balancer's idle timeout of 60 s, which would close a silent stream."""


def event_id(plan: Plan) -> str:
    """Return the id of a state of the plan. A client that reconnects sends the last id that it received."""
    return f"{plan.status}-{plan.updated_at.timestamp():.3f}"


def is_over(plan: Plan, last_event_id: str | None) -> bool:
    """Return whether the plan is finished and the client has received that state."""
    return plan.status not in IN_THE_MAKING and last_event_id == event_id(plan)


def format_event(plan: Plan) -> str:
    """Format the plan's state as an event."""
    data = PlanProgress.model_validate(plan).model_dump_json()
    return f"event: progress\nid: {event_id(plan)}\ndata: {data}\n\n"


async def follow_plan(plan: Plan, service: ApiService, feed: ChangeFeed, stopping: asyncio.Event) -> AsyncIterator[str]:
    """Yield the state, then an event for each change, until the plan is finished or the process gets SIGTERM."""
    clock = asyncio.get_running_loop().time
    async with feed.follow(str(plan.id)) as changed:
        yield "retry: 1000\n" + format_event(plan)
        said, said_at = event_id(plan), clock()
        while plan.status in IN_THE_MAKING and not stopping.is_set():
            await _first_of(changed, stopping, LOOK_SECONDS)
            changed.clear()
            plan = await service.find_plan(plan.id, plan.user_id)
            if event_id(plan) != said:
                yield format_event(plan)
                said, said_at = event_id(plan), clock()
            elif clock() - said_at > COMMENT_SECONDS:
                yield ": still here\n\n"
                said_at = clock()


async def _first_of(changed: asyncio.Event, stopping: asyncio.Event, seconds: float) -> None:
    waiters = [asyncio.create_task(changed.wait()), asyncio.create_task(stopping.wait())]
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
