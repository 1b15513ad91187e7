"""The only function with which tests wait: it calls a probe until the result is true.

A wait ends soon after the result is true: the pauses between two calls grow. Limits are generous: they matter only if
a test fails on a busy machine.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

T = TypeVar("T")
SHORTEST_PAUSE_SECONDS = 0.02
LONGEST_PAUSE_SECONDS = 0.2


def until(probe: Callable[[], T | Literal[False] | None], what: str = "", *, seconds: float = 60.0) -> T:
    """Return the first true result of `probe`. After the limit, raise AssertionError with `what` and the last result.

    `what` continues "waited for": "the second mail", "the server to listen".
    """
    deadline = time.monotonic() + seconds
    pauses = _pauses()
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(
                f"waited {seconds:g} s in vain{f' for {what}' if what else ''}; last result: {result!r}"
            )
        time.sleep(next(pauses))


async def async_until(probe: Callable[[], Any], what: str = "", *, seconds: float = 60.0) -> Any:
    """`until` on a running event loop; `probe` may be a coroutine function."""
    deadline = time.monotonic() + seconds
    pauses = _pauses()
    while True:
        result = probe()
        if inspect.isawaitable(result):
            result = await result
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(
                f"waited {seconds:g} s in vain{f' for {what}' if what else ''}; last result: {result!r}"
            )
        await asyncio.sleep(next(pauses))


def _pauses() -> Iterator[float]:
    """Pauses that grow: a short wait ends at once, and a long one leaves the processor to what it waits for."""
    pause = SHORTEST_PAUSE_SECONDS
    while True:
        yield pause
        pause = min(pause * 1.2, LONGEST_PAUSE_SECONDS)
