"""The region's background work: loops that continue after an exception, and jobs whose exception is recorded.

Every loop and every task that is not awaited starts here. An exception is logged with its traceback, recorded in
`failures` (`./alva status` shows them) and, in a loop, followed by another attempt.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

logger = logging.getLogger("alva.background")

RETRY_SECONDS = 1.0
LONGEST_RETRY_SECONDS = 60.0
# A job runs once, so no later success removes its failure. It is shown this long.
JOB_FAILURE_SECONDS = 3600.0
MOST_FAILURES = 100

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """Work that failed the last time it ran."""

    name: str
    """The work that failed, as a phrase after "cannot": `save the state of rds`."""
    error: str
    since: str
    """Time of the first failure, as ISO 8601 in UTC."""
    count: int
    """Number of failures in a row."""

    def as_dict(self) -> dict[str, Any]:
        """The failure as JSON."""
        return asdict(self)


class Background:
    """Starts background tasks on the running event loop and records which of them fail.

    Tasks run in a copy of the context in which this object was made, not in that of the request that started them:
    MiniStack scopes its records by the account and the region of a request, and background work must see those of the
    local region. `context=contextvars.copy_context()` keeps the caller's context for a job that acts for the caller.
    """

    def __init__(self, retry_seconds: float = RETRY_SECONDS) -> None:
        self._retry_seconds = retry_seconds
        self._context = contextvars.copy_context()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failures: dict[str, Failure] = {}
        self._forget_at: dict[str, float] = {}

    def run_forever(self, name: str, step: Callable[[], Awaitable[object]]) -> asyncio.Task[None]:
        """Call `step` again and again until the task is cancelled; `step` itself waits between two rounds.

        After an exception the next call comes in 1 second, then in 2, 4 and up to 60; a call that returns, or that
        runs for longer than the wait before it, counts as success.
        """
        return self._start(name, self._repeat(name, step), None)

    def spawn(
        self, name: str, job: Coroutine[Any, Any, T], context: contextvars.Context | None = None
    ) -> asyncio.Task[T | None]:
        """Run `job` once. Its exception is logged and recorded; the task's result is then None."""
        return self._start(name, self._once(name, job), context)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` now, in the scope of the local region instead of that of a request."""
        return self._context.copy().run(function, *args, **kwargs)

    @property
    def context(self) -> contextvars.Context:
        """A context for `call_soon` and `call_later`, in the scope of the local region."""
        return self._context.copy()

    @property
    def failures(self) -> list[Failure]:
        """The loops that fail now, and the jobs that failed in the last hour; the oldest first."""
        now = time.monotonic()
        for name in [name for name, when in self._forget_at.items() if when <= now]:
            self.succeeded(name)
        return list(self._failures.values())

    def failed(self, name: str, error: BaseException) -> None:
        """Log and record that `name` failed. A traceback is logged once for each different error."""
        text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        before = self._failures.pop(name, None)
        since = before.since if before else datetime.now(UTC).isoformat(timespec="seconds")
        count = before.count + 1 if before else 1
        self._failures[name] = Failure(name, text, since, count)
        if before is None or before.error != text:
            logger.error("cannot %s: %s", name, text, exc_info=error)
        elif count.bit_count() == 1:  # The 2nd, 4th, 8th failure and so on: frequent failures do not fill the log.
            logger.warning("cannot %s: %s (%d times)", name, text, count)
        while len(self._failures) > MOST_FAILURES:
            self.succeeded(next(iter(self._failures)))

    def succeeded(self, name: str) -> None:
        """Record that `name` has succeeded."""
        self._forget_at.pop(name, None)
        if failure := self._failures.pop(name, None):
            logger.info("no longer fails after %d times: %s", failure.count, name)

    async def stop(self) -> None:
        """Cancel everything that still runs and wait until it has ended."""
        await end(*self._tasks)

    def _start(self, name: str, work: Coroutine[Any, Any, T], context: contextvars.Context | None) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(work, name=name, context=context or self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _once(self, name: str, job: Coroutine[Any, Any, T]) -> T | None:
        try:
            result = await job
        except Exception as error:
            self.failed(name, error)
            self._forget_at[name] = time.monotonic() + JOB_FAILURE_SECONDS
            return None
        self.succeeded(name)
        return result

    async def _repeat(self, name: str, step: Callable[[], Awaitable[object]]) -> None:
        wait = self._retry_seconds
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            recovery = loop.call_later(wait, self.succeeded, name) if name in self._failures else None
            try:
                await step()
            except Exception as error:
                failure = error
            else:
                wait = self._retry_seconds
                self.succeeded(name)
                continue
            finally:
                if recovery is not None:
                    recovery.cancel()
            if loop.time() - began > wait:
                wait = self._retry_seconds
            self.failed(name, failure)
            await asyncio.sleep(wait)
            wait = min(wait * 2, LONGEST_RETRY_SECONDS)


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel tasks (None is ignored) and wait until they have ended; their exceptions are dropped."""
    running = [task for task in tasks if task is not None and task is not asyncio.current_task()]
    for task in running:
        task.cancel()
    if running:
        await asyncio.wait(running)
    for task in running:
        if not task.cancelled():
            task.exception()
