"""`python -m api.worker`: takes plans from the queue and makes them.

A job can run twice: the plan's row has its status, and its content and tasks are written in one transaction that
requires an unfinished plan. If a worker dies, the lock of its job expires and another worker takes the job. At SIGTERM
a worker finishes the jobs that it can and returns the others to the queue.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
import uuid
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from bullmq import Job, Worker
from bullmq.custom_errors import DelayedError, UnrecoverableError
from redis.asyncio import Redis

from api import repository
from api.content import PlanContent
from api.planner import Planner, PlannerError
from api.queue import ATTEMPTS, QUEUE_NAME, ChangeFeed, PlanQueue, connection_name
from api.schemas import IN_THE_MAKING
from api.settings import WorkerSettings
from api.tables import Plan
from common import cache
from common.database import Database
from common.logs import RequestContext, current_request
from common.process import load_or_exit

log = logging.getLogger(__name__)

CONCURRENCY = 4
FINISH_SECONDS = 10.0
"""How long a worker finishes jobs after SIGTERM, of the 30 s until ECS kills it."""
RECONCILE_SECONDS = 15.0
COUNT_SECONDS = 60.0
"""How often the queue depth is logged. CloudWatch makes a metric of it."""
QUIET_FOR = timedelta(seconds=20)
"""An unfinished plan that has not changed for this long is reconciled."""


class PlanWorker:
    """Makes plans, one job at a time each."""

    def __init__(
        self,
        database: Database,
        queue: PlanQueue,
        feed: ChangeFeed,
        planner: Planner,
        *,
        look_for_cancellation_seconds: float = 2.0,
    ) -> None:
        self._database = database
        self._queue = queue
        self._feed = feed
        self._planner = planner
        self._look_seconds = look_for_cancellation_seconds
        self._hand_back = asyncio.Event()
        self._at_work = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def process(self, job: Job, token: str) -> str:
        """Run one job, as BullMQ's processor. Returns the outcome."""
        plan_id = UUID(job.data["plan_id"])
        context = current_request.set(RequestContext(request_id=str(plan_id)))
        started = time.perf_counter()
        self._at_work += 1
        self._idle.clear()
        try:
            outcome = await self._process(job, token, plan_id)
        finally:
            current_request.reset(context)
            self._at_work -= 1
            if self._at_work == 0:
                self._idle.set()
        milliseconds = round((time.perf_counter() - started) * 1000)
        fields = {"plan_id": plan_id, "attempt": job.attemptsMade + 1, "duration_ms": milliseconds}
        log.info("plan %s: %s", plan_id, outcome, extra=fields)
        return outcome

    async def _process(self, job: Job, token: str, plan_id: UUID) -> str:
        plan = await self._change(plan_id, status="running", step="Starting", progress=1)
        if plan is None:
            return "already finished or cancelled"
        making = asyncio.create_task(self._planner.make(plan.profile, partial(self._report, plan_id)))
        stopping = asyncio.create_task(self._hand_back.wait())
        cancelled = asyncio.create_task(self._wait_for_cancellation(plan_id))
        try:
            await asyncio.wait({making, stopping, cancelled}, return_when=asyncio.FIRST_COMPLETED)
            if making.done():
                return await self._finish(plan_id, making.result())
            if cancelled.done():
                return "cancelled"
            await self._change(plan_id, status="queued", step="Waiting for a worker", progress=0)
            await job.moveToDelayed(int(time.time() * 1000), token)
            log.info("plan %s: returned to the queue: the worker stops", plan_id)
            raise DelayedError
        except DelayedError:
            raise
        except Exception as error:
            sentence = error.sentence if isinstance(error, PlannerError) else "The plan could not be made."
            is_final = isinstance(error, PlannerError) and error.is_final
            if is_final or job.attemptsMade + 1 >= ATTEMPTS:
                await self._fail(plan_id, sentence)
                raise UnrecoverableError(sentence) from error
            await self._change(plan_id, step="Trying again in a moment")
            raise
        finally:
            for task in (making, stopping, cancelled):
                task.cancel()
            await asyncio.gather(making, stopping, cancelled, return_exceptions=True)

    async def _change(self, plan_id: UUID, **values: Any) -> Plan | None:
        async with self._database.transaction() as db:
            plan = await repository.change_plan(db, plan_id, only_from=IN_THE_MAKING, **values)
        await self._queue.announce(str(plan_id))
        return plan

    async def _report(self, plan_id: UUID, percent: int, step: str) -> None:
        await self._change(plan_id, progress=percent, step=step)

    async def _finish(self, plan_id: UUID, content: PlanContent) -> str:
        async with self._database.transaction() as db:
            plan = await repository.change_plan(
                db,
                plan_id,
                only_from=IN_THE_MAKING,
                status="ready",
                progress=100,
                step="Ready",
                problem="",
                content=content.model_dump(mode="json"),
                finished_at=datetime.now(UTC),
            )
            if plan is not None:
                await repository.replace_tasks(db, plan_id, board(content))
        await self._queue.announce(str(plan_id))
        return "ready" if plan is not None else "cancelled before it was saved"

    async def _fail(self, plan_id: UUID, sentence: str) -> None:
        await self._change(plan_id, status="failed", step="Failed", problem=sentence, finished_at=datetime.now(UTC))

    async def _wait_for_cancellation(self, plan_id: UUID) -> None:
        async with self._feed.follow(str(plan_id)) as changed:
            while True:
                async with self._database.transaction() as db:
                    plan = await repository.find_plan(db, plan_id)
                if plan is None or plan.status not in IN_THE_MAKING:
                    return
                changed.clear()
                try:
                    async with asyncio.timeout(self._look_seconds):
                        await changed.wait()
                except TimeoutError:
                    continue

    async def wind_up(self, seconds: float) -> None:
        """Finish active jobs within the time limit, and return the others to the queue."""
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            self._hand_back.set()
            await self._idle.wait()

    async def reconcile(self) -> None:
        """Queue unfinished plans that have no job, and mark those as failed whose job has failed."""
        async with self._database.transaction() as db:
            forgotten = await repository.list_forgotten_plans(db, QUIET_FOR)
        for plan_id in forgotten:
            state = await self._queue.state(str(plan_id))
            if state == "failed":
                await self._fail(plan_id, "The plan could not be made.")
            elif state in {"unknown", "completed"}:
                log.warning("plan %s is unfinished and its job is %s: queued again", plan_id, state)
                await self._queue.renew(str(plan_id))

    async def reconcile_for_ever(self, seconds: float) -> None:
        """Reconcile at regular intervals. A failed attempt is repeated at the next one."""
        while True:
            try:
                await self.reconcile()
            except Exception:
                log.exception("cannot reconcile plans and queue")
            await asyncio.sleep(seconds)

    async def log_depth_for_ever(self, seconds: float) -> None:
        """Log the number of waiting jobs for the metric filter on `queue_depth`. A failure is retried later."""
        while True:
            try:
                counts = await self._queue.count()
                depth = counts["waiting"] + counts["delayed"]
                fields = {"queue": QUEUE_NAME, "queue_depth": depth, "queue_active": counts["active"]}
                log.info("%d jobs wait in the queue %s", depth, QUEUE_NAME, extra=fields)
            except Exception as error:
                log.warning("cannot count the jobs in the queue %s: %s", QUEUE_NAME, error)
            await asyncio.sleep(seconds)


def board(content: PlanContent) -> list[dict[str, Any]]:
    """Return the tasks of a plan in the board's order: quick wins first, then by week."""
    wins = [
        {
            "title": win.title,
            "description": win.description,
            "channel": "",
            "effort": "small",
            "week": 1,
            "is_quick_win": True,
        }
        for win in content.quick_wins
    ]
    tasks = [{**task.model_dump(), "is_quick_win": False} for task in sorted(content.tasks, key=lambda task: task.week)]
    return wins + tasks


def start_worker(plans: PlanWorker, redis: Redis, **options: Any) -> Worker:
    """Start a BullMQ worker. `options` are BullMQ's; tests use shorter intervals."""
    worker = Worker(
        QUEUE_NAME,
        plans.process,
        {
            "connection": redis,
            "concurrency": CONCURRENCY,
            "lockDuration": 15_000,
            "stalledInterval": 10_000,
            "maxStalledCount": 3,
            "runRetryDelay": 1_000,
            **options,
        },
    )
    worker.on("error", lambda error, *_: log.warning("the queue's worker reports: %s: %s", type(error).__name__, error))
    worker.on("stalled", lambda job_id, *_: log.warning("job %s lost its worker and is queued again", job_id))
    return worker


async def stop_fetching(worker: Worker) -> None:
    """Pause a worker, so that it takes no further job.

    BullMQ cancels its wait for a job only if the wait has begun. A fetch that BullMQ has scheduled, but not started,
    would take the job that this worker returns to the queue, and the job would wait until its lock expires.
    """
    await worker.pause(do_not_wait_active=True)
    await asyncio.sleep(0)  # A scheduled fetch begins to wait here.
    if worker.waiting is not None:
        worker.waiting.cancel()


async def run(
    settings: WorkerSettings,
    *,
    finish_seconds: float = FINISH_SECONDS,
    reconcile_seconds: float = RECONCILE_SECONDS,
    count_seconds: float = COUNT_SECONDS,
    **options: Any,
) -> None:
    """Work until SIGTERM. Tests pass shorter delays and BullMQ options."""
    database = Database(settings.database_url, application_name="alva-worker", pool_size=3)
    # A blocking wait for a job lasts up to ten seconds, so the timeout is longer here.
    name = uuid.uuid4().hex[:12]
    redis = cache.connect(
        settings.redis_url,
        settings.redis_password_value,
        timeout_seconds=20,
        client_name=connection_name(name),
    )
    planner = Planner(settings.openai_api_key.get_secret_value(), settings.openai_model)
    feed = ChangeFeed(redis)
    plans = PlanWorker(database, PlanQueue(redis), feed, planner)
    told_to_stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told_to_stop.set)
    worker = start_worker(plans, redis, name=name, **options)
    background = [
        asyncio.create_task(plans.reconcile_for_ever(reconcile_seconds)),
        asyncio.create_task(plans.log_depth_for_ever(count_seconds)),
    ]
    log.info("working on the queue %s", QUEUE_NAME)
    await told_to_stop.wait()
    log.info("received SIGTERM")
    for task in background:
        task.cancel()
    # Pause the worker instead of closing it: a closing worker renews no locks, so another worker could take its jobs.
    await stop_fetching(worker)
    await plans.wind_up(finish_seconds)
    await worker.close()
    await feed.close()
    await planner.close()
    await database.close()
    await redis.aclose()
    log.info("stopped")


if __name__ == "__main__":
    asyncio.run(run(load_or_exit(WorkerSettings)))
