"""The queue of plans to make (BullMQ), and the feed that tells who watches that a plan changed.

A plan's job has the plan's id, so that a plan is queued once, however often it is asked for. What is true about a plan
is in PostgreSQL; the queue may lose everything, and the worker's reconciliation queues what is still to be made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from bullmq import Job, Queue
from redis.asyncio import Redis

from api.schemas import JobView
from common.cache import UNAVAILABLE

log = logging.getLogger(__name__)

QUEUE_NAME = "plans"
ATTEMPTS = 4
_JOB_OPTIONS = {
    "attempts": ATTEMPTS,
    "backoff": {"type": "exponential", "delay": 2000},
    "removeOnComplete": {"age": 7 * 86400, "count": 1000},
    "removeOnFail": {"age": 30 * 86400, "count": 1000},
}
_CHANNEL = "plans:changed"
COUNTED_STATES = ("waiting", "active", "delayed", "completed", "failed")


def connection_name(worker_name: str) -> str:
    """What all connections of a worker are called, so that it is counted.

    BullMQ itself names one connection, which in a pool is any. It knows workers by `bull:<queue>:w:<worker>`.
    """
    return f"bull:{QUEUE_NAME}:w:{worker_name}"


class PlanQueue:
    """Plans to make, as jobs."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        # BullMQ takes the client as it is, with its pool: a blocked command does not hold up another.
        self._queue = Queue(QUEUE_NAME, {"connection": redis})

    async def add(self, plan_id: str) -> None:
        """Queue the making of a plan; nothing happens where it is queued already."""
        await self._queue.add("make", {"plan_id": plan_id}, {**_JOB_OPTIONS, "jobId": plan_id})

    async def find(self, plan_id: str) -> Job | None:
        """The plan's job."""
        return await self._queue.getJob(plan_id)

    async def state(self, plan_id: str) -> str:
        """The state of the plan's job; `unknown` where there is none."""
        state: str = await self._queue.getJobState(plan_id)
        return state

    async def renew(self, plan_id: str) -> None:
        """Queue the making anew, with all its attempts; a job at work is left alone."""
        state = await self.state(plan_id)
        if state in {"completed", "failed"}:
            await self.remove(plan_id)
        await self.add(plan_id)

    async def remove(self, plan_id: str) -> None:
        """Take the plan's job out of the queue; one that a worker holds stays until the worker notices."""
        job = await self.find(plan_id)
        if job is not None:
            with suppress(Exception):  # BullMQ raises a bare Exception where the job is locked by a worker
                await job.remove()

    async def list_jobs(self, states: Sequence[str], limit: int, offset: int) -> tuple[list[JobView], int]:
        """Jobs in these states, newest first, and how many there are."""
        counts = await self.count()
        jobs: list[Job] = []
        for state in states:
            # Asked for state by state: a range over several states would be a range of each.
            jobs += await self._queue.getJobs([state], 0, offset + limit - 1, False)
        jobs.sort(key=lambda job: job.timestamp, reverse=True)
        page = jobs[offset : offset + limit]
        found = await asyncio.gather(*(self.state(job.id) for job in page))
        views = [job_view(job, state) for job, state in zip(page, found, strict=True)]
        return views, sum(counts.get(state, 0) for state in states)

    async def count(self) -> dict[str, int]:
        """How many jobs there are in each state."""
        counts: dict[str, int] = await self._queue.getJobCounts(*COUNTED_STATES)
        return counts

    async def count_workers(self) -> int:
        """How many workers are connected: BullMQ counts connections, and a worker has several of one name."""
        return len({connection["rawname"] for connection in await self._queue.get_workers()})

    async def require_worker(self) -> None:
        """Raise RuntimeError where nobody takes plans from the queue."""
        if not await self.count_workers():
            raise RuntimeError("no worker is connected to the queue")

    async def announce(self, plan_id: str) -> None:
        """Tell who watches that the plan changed. Losing this is no loss: they look again soon anyway."""
        with suppress(*UNAVAILABLE):
            await self._redis.publish(_CHANNEL, plan_id)


def job_view(job: Any, state: str) -> JobView:
    """A job for people."""
    return JobView(
        id=job.id,
        plan_id=job.data.get("plan_id", ""),
        state=state,
        attempts=job.attemptsMade,
        progress=job.progress if isinstance(job.progress, int) else 0,
        failed_reason=job.failedReason or None,
        created_at=datetime.fromtimestamp(job.timestamp / 1000, UTC),
        finished_at=datetime.fromtimestamp(job.finishedOn / 1000, UTC) if job.finishedOn else None,
    )


class ChangeFeed:
    """Tells who follows a plan that it changed; one subscription for the whole process, made when somebody follows."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._followers: dict[str, set[asyncio.Event]] = {}
        self._listener: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def follow(self, plan_id: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever the plan changed; whoever waits clears it."""
        event = asyncio.Event()
        self._followers.setdefault(plan_id, set()).add(event)
        if self._listener is None or self._listener.done():
            self._listener = asyncio.create_task(self._listen())
        try:
            yield event
        finally:
            followers = self._followers[plan_id]
            followers.discard(event)
            if not followers:
                del self._followers[plan_id]

    async def _listen(self) -> None:
        while self._followers:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as subscription:
                    await subscription.subscribe(_CHANNEL)
                    while self._followers:
                        message = await subscription.get_message(timeout=2.0)
                        if message is not None:
                            for event in self._followers.get(message["data"], ()):
                                event.set()
            except UNAVAILABLE as error:
                log.warning("lost the feed of changes, followers look by themselves meanwhile: %s", error)
                await asyncio.sleep(1.0)  # until the cache is back

    async def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.cancel()
            with suppress(asyncio.CancelledError):
                await self._listener
