"""Restarts an engine that ended unexpectedly, on its data, as RDS and ElastiCache do.

RDS restarts a crashed engine on the same host ("Recovery of the DB instance has started"), ElastiCache replaces a
failed node; neither changes the endpoint.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from alva.region.background import Background
from alva.region.supervisor import Process

logger = logging.getLogger("alva.recovery")

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 30.0


def keep_running(
    background: Background, process: Process, is_wanted: Callable[[], bool], start: Callable[[], Awaitable[None]]
) -> None:
    """Once `process` has ended, call `start` until it succeeds, while `is_wanted` is true. On the event loop only.

    Any exception of `start` is logged, and the next try comes after a longer wait. A successful start watches its own
    process.
    """

    async def watch() -> None:
        ended = await process.wait()
        delay = FIRST_DELAY_SECONDS
        while is_wanted():
            logger.warning("%s ended with code %s: restarting it", process.name, ended.code)
            await asyncio.sleep(delay)
            if not is_wanted():
                break
            try:
                await start()
            except Exception as error:
                background.failed(f"restart {process.name}", error)
                delay = min(delay * 4, LONGEST_DELAY_SECONDS)
            else:
                break
        background.succeeded(f"restart {process.name}")

    background.spawn(f"watch {process.name}", watch())
