"""The only function with which tests wait: it calls a probe until the result is true.

A wait ends as soon as the result is true. Limits are generous: they matter only if a test fails on a busy machine.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar

T = TypeVar("T")


def until(probe: Callable[[], T | Literal[False] | None], what: str = "", *, seconds: float = 60.0) -> T:
    """Return the first true result of `probe`. After the limit, raise AssertionError with `what` and the last result.

    `what` continues "waited for": "the second mail", "the server to listen".
    """
    deadline = time.monotonic() + seconds
    while True:
        result = probe()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(
                f"waited {seconds:g} s in vain{f' for {what}' if what else ''}; last result: {result!r}"
            )
        time.sleep(0.05)


async def async_until(probe: Callable[[], Any], what: str = "", *, seconds: float = 60.0) -> Any:
    """`until` on a running event loop; `probe` may be a coroutine function."""
    deadline = time.monotonic() + seconds
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
        await asyncio.sleep(0.02)
