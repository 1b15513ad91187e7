"""The queue of plans (BullMQ), and the feed that signals changes to the clients that watch a plan.

A job has the plan's id, so that a plan is queued once. PostgreSQL has the state of every plan. If the queue loses its
data, the worker's reconciliation queues the unfinished plans again.
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
    """Return the name for all connections of a worker, by which BullMQ counts workers: `bull:<queue>:w:<worker>`.

    BullMQ itself names one connection only, and with a pool that can be any connection.
    """
    return f"bull:{QUEUE_NAME}:w:{worker_name}"


class PlanQueue:
    """The queue, with one job for each plan."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        # BullMQ uses the client's pool, so a blocking command does not delay others.
        self._queue = Queue(QUEUE_NAME, {"connection": redis})

    async def add(self, plan_id: str) -> None:
        """Queue a plan. If it is queued already, do nothing."""
        await self._queue.add("make", {"plan_id": plan_id}, {**_JOB_OPTIONS, "jobId": plan_id})

    async def find(self, plan_id: str) -> Job | None:
        """Return the plan's job."""
        return await self._queue.getJob(plan_id)

    async def state(self, plan_id: str) -> str:
        """Return the state of the plan's job, or `unknown` if there is none."""
        state: str = await self._queue.getJobState(plan_id)
        return state

    async def renew(self, plan_id: str) -> None:
        """Queue the plan again with all its attempts. An active job is not changed."""
        state = await self.state(plan_id)
        if state in {"completed", "failed"}:
            await self.remove(plan_id)
        await self.add(plan_id)

    async def remove(self, plan_id: str) -> None:
        """Remove the plan's job from the queue. An active job stays until its worker stops."""
        job = await self.find(plan_id)
        if job is not None:
            with suppress(Exception):  # BullMQ raises a plain Exception if a worker has locked the job.
                await job.remove()

    async def list_jobs(self, states: Sequence[str], limit: int, offset: int) -> tuple[list[JobView], int]:
        """Return the jobs in these states, newest first, and their total number."""
        counts = await self.count()
        jobs: list[Job] = []
        for state in states:
            # One call for each state: BullMQ applies a range to each state separately.
            jobs += await self._queue.getJobs([state], 0, offset + limit - 1, False)
        jobs.sort(key=lambda job: job.timestamp, reverse=True)
        page = jobs[offset : offset + limit]
        found = await asyncio.gather(*(self.state(job.id) for job in page))
        views = [job_view(job, state) for job, state in zip(page, found, strict=True)]
        return views, sum(counts.get(state, 0) for state in states)

    async def count(self) -> dict[str, int]:
        """Return the number of jobs in each state."""
        counts: dict[str, int] = await self._queue.getJobCounts(*COUNTED_STATES)
        return counts

    async def count_workers(self) -> int:
        """Return the number of connected workers. BullMQ counts connections, and those of one worker have the same
        name.
        """
        return len({connection["rawname"] for connection in await self._queue.get_workers()})

    async def require_worker(self) -> None:
        """Raise RuntimeError if no worker is connected."""
        if not await self.count_workers():
            raise RuntimeError("no worker is connected to the queue")

    async def announce(self, plan_id: str) -> None:
        """Signal that the plan changed. If the signal is lost, clients get the change when PostgreSQL is read again."""
        with suppress(*UNAVAILABLE):
            await self._redis.publish(_CHANNEL, plan_id)


def job_view(job: Any, state: str) -> JobView:
    """Return the view of a job."""
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
    """Signals changes of a plan. The process has one subscription, which begins with the first follower."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._followers: dict[str, set[asyncio.Event]] = {}
        self._listener: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def follow(self, plan_id: str) -> AsyncIterator[asyncio.Event]:
        """Yield an event that is set whenever the plan changes. The waiting code clears it."""
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
                log.warning("lost the connection to the feed of changes; clients read PostgreSQL meanwhile: %s", error)
                await asyncio.sleep(1.0)  # Wait until the cache is available again.

    async def close(self) -> None:
        """End the subscription."""
        if self._listener is not None:
            self._listener.cancel()
            with suppress(asyncio.CancelledError):
                await self._listener
