"""The order of a stack operation, without any resource."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from alva.region.cloudformation.graph import Outcome, reversed_dependencies, run_in_order

CHAIN = {"a": set[str](), "b": {"a"}, "c": {"b"}, "x": set[str]()}


def run(dependencies: Mapping[str, Any], work: Callable[[str], Awaitable[None]], **options: Any) -> Outcome:
    return asyncio.run(asyncio.wait_for(run_in_order(dependencies, work, **options), 10))


def test_a_step_starts_when_its_dependencies_are_done() -> None:
    done: list[str] = []

    async def work(name: str) -> None:
        assert {"b": {"a"}, "c": {"b"}}.get(name, set()) <= set(done)
        await asyncio.sleep(0)
        done.append(name)

    outcome = run(CHAIN, work)
    assert outcome.done == {"a", "b", "c", "x"}
    assert not outcome.failed


def test_independent_steps_run_side_by_side() -> None:
    async def both() -> None:
        meeting = asyncio.Barrier(3)

        async def work(_: str) -> None:
            await meeting.wait()

        await run_in_order({"a": set(), "b": set(), "c": set()}, work)

    asyncio.run(asyncio.wait_for(both(), 5))


def test_after_a_failure_nothing_starts_and_running_steps_are_cancelled() -> None:
    started: list[str] = []

    async def work(name: str) -> None:
        started.append(name)
        if name == "a":
            raise ValueError("no")
        await asyncio.sleep(60)

    outcome = run(CHAIN, work)
    assert sorted(started) == ["a", "x"]
    assert str(outcome.failed["a"]) == "no"
    assert outcome.cancelled == {"x"}


def test_step_that_cannot_be_cancelled_is_awaited() -> None:
    async def work(name: str) -> None:
        if name == "a":
            raise ValueError("no")
        await asyncio.sleep(0.05)

    outcome = run({"a": set(), "x": set()}, work, may_cancel=lambda name: name != "x")
    assert outcome.done == {"x"}


def test_a_request_to_stop_cancels() -> None:
    async def work(_: str) -> None:
        await asyncio.sleep(60)

    outcome = run(CHAIN, work, stop_requested=lambda: True)
    assert outcome.was_stopped
    assert outcome.cancelled == {"a", "x"}


def test_keep_going_stops_only_the_dependents_of_a_failure() -> None:
    async def work(name: str) -> None:
        if name == "b":
            raise ValueError("no")

    outcome = run(CHAIN, work, keep_going=True)
    assert outcome.done == {"a", "x"}
    assert set(outcome.failed) == {"b"}


def test_deletion_runs_in_the_opposite_order() -> None:
    assert reversed_dependencies(CHAIN) == {"a": {"b"}, "b": {"c"}, "c": set(), "x": set()}
