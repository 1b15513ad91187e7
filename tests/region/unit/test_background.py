"""Background work continues after an exception, records failures, and uses the region's scope, not a caller's."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from alva.region import background
from alva.region.background import Background, end
from tests.waiting import async_until

pytestmark = pytest.mark.anyio
scope: contextvars.ContextVar[str] = contextvars.ContextVar("scope", default="the region's")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_loop_continues_after_an_exception(caplog: pytest.LogCaptureFixture) -> None:
    work = Background(retry_seconds=0.01)
    rounds = 0
    third = asyncio.Event()

    async def step() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise RuntimeError("no such thing")
        if rounds == 3:
            third.set()
            await asyncio.Event().wait()

    work.run_forever("measure", step)
    await asyncio.wait_for(third.wait(), 10)
    assert work.failures == []
    assert "cannot measure: RuntimeError: no such thing" in caplog.text
    assert "Traceback" in caplog.text
    await work.stop()


async def test_failing_loop_is_shown_with_its_error_and_logged_once_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    work = Background(retry_seconds=0.001)
    fourth = asyncio.Event()
    rounds = 0

    async def step() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 4:
            fourth.set()
        raise OSError(24, "Too many open files")

    task = work.run_forever("watch alarms", step)
    await asyncio.wait_for(fourth.wait(), 10)
    await end(task)
    (failure,) = work.failures
    assert (failure.name, failure.error) == ("watch alarms", "OSError: [Errno 24] Too many open files")
    assert failure.count >= 3
    assert caplog.text.count("Traceback") == 1


async def test_step_that_runs_on_after_a_failure_counts_as_recovered() -> None:
    work = Background(retry_seconds=0.01)
    rounds = 0

    async def step() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise RuntimeError
        await asyncio.Event().wait()

    work.run_forever("follow", step)
    await async_until(lambda: rounds == 2 and not work.failures)
    await work.stop()


async def test_job_that_fails_is_logged_and_shown_until_it_succeeds(caplog: pytest.LogCaptureFixture) -> None:
    work = Background()

    async def job(fails: bool) -> int:
        if fails:
            raise ValueError("no space left")
        return 7

    assert await work.spawn("make a log group", job(fails=True)) is None
    assert [failure.error for failure in work.failures] == ["ValueError: no space left"]
    assert "cannot make a log group" in caplog.text
    assert await work.spawn("make a log group", job(fails=False)) == 7
    assert work.failures == []


async def test_failed_job_is_forgotten_after_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "JOB_FAILURE_SECONDS", 0.0)
    work = Background()

    async def job() -> None:
        raise ValueError

    await work.spawn("send", job())
    assert work.failures == []


async def test_number_of_failures_is_limited() -> None:
    work = Background()
    for number in range(3 * background.MOST_FAILURES):
        work.failed(f"stop task {number}", OSError("gone"))
    assert len(work.failures) == background.MOST_FAILURES


async def test_work_started_by_a_request_sees_the_region_and_not_the_scope_of_the_request() -> None:
    work = Background()
    scope.set("eu-west-1")

    async def seen() -> str:
        return scope.get()

    assert await work.spawn("look", seen()) == "the region's"
    assert await work.spawn("look", seen(), context=contextvars.copy_context()) == "eu-west-1"
    assert work.call(scope.get) == "the region's"
    assert work.context.run(scope.get) == "the region's"


async def test_stop_cancels_running_work_and_waits_for_its_end() -> None:
    work = Background()
    cleaned = False

    async def job() -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    work.spawn("hold", job())
    await asyncio.sleep(0)
    await work.stop()
    assert cleaned
