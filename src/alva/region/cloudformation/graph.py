"""Runs the steps of a stack operation in parallel, in dependency order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field

# How often a running operation checks for a cancellation: CancelUpdateStack only sets a flag.
STOP_POLL_SECONDS = 0.2


@dataclass
class Outcome:
    """The result of each step. A step that is in none of the sets was not started."""

    done: set[str] = field(default_factory=set)
    failed: dict[str, Exception] = field(default_factory=dict)
    cancelled: set[str] = field(default_factory=set)
    """Running steps that were cancelled because another one failed or the operation was cancelled."""
    was_stopped: bool = False


def reversed_dependencies(dependencies: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    """The dependents of each name: the order in which resources can be deleted."""
    dependents: dict[str, set[str]] = {name: set() for name in dependencies}
    for name, needed in dependencies.items():
        for other in needed:
            if other in dependents and other != name:
                dependents[other].add(name)
    return dependents


def circular_names(dependencies: Mapping[str, Collection[str]]) -> set[str]:
    """The names that are in a circular dependency, or depend on one."""
    waiting = {name: set(needed) - {name} for name, needed in dependencies.items()}
    while ready := {name for name, needed in waiting.items() if not needed & waiting.keys()}:
        waiting = {name: needed for name, needed in waiting.items() if name not in ready}
    return set(waiting)


async def run_in_order(
    dependencies: Mapping[str, Collection[str]],
    work: Callable[[str], Awaitable[None]],
    *,
    may_cancel: Callable[[str], bool] = lambda _: True,
    stop_requested: Callable[[], bool] = lambda: False,
    keep_going: bool = False,
) -> Outcome:
    """Call `work(name)` for every name in parallel, each as soon as its dependencies are done.

    After a failure no step starts. A running step is cancelled where `may_cancel` allows it, and awaited otherwise.
    With `keep_going`, a failure only stops the steps that depend on the failed one. Dependencies outside the mapping
    count as done.
    """
    outcome = Outcome()
    waiting = {
        name: {other for other in needed if other in dependencies and other != name}
        for name, needed in dependencies.items()
    }
    running: dict[asyncio.Task[None], str] = {}
    is_stopping = False
    try:
        while True:
            if not is_stopping:
                for name in sorted(name for name, needed in waiting.items() if needed <= outcome.done):
                    del waiting[name]
                    running[asyncio.ensure_future(_as_coroutine(work, name))] = name
            if not running:
                return outcome
            finished, _ = await asyncio.wait(running, timeout=STOP_POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            for task in finished:
                name = running.pop(task)
                if task.cancelled():
                    outcome.cancelled.add(name)
                elif isinstance(error := task.exception(), Exception):
                    outcome.failed[name] = error
                elif error is not None:
                    raise error
                else:
                    outcome.done.add(name)
            outcome.was_stopped = outcome.was_stopped or stop_requested()
            if not is_stopping and (outcome.was_stopped or (outcome.failed and not keep_going)):
                is_stopping = True
                for task, name in running.items():
                    if may_cancel(name):
                        task.cancel()
    finally:
        for task in running:
            task.cancel()


async def _as_coroutine(work: Callable[[str], Awaitable[None]], name: str) -> None:
    await work(name)
