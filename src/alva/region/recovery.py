"""What RDS and ElastiCache do about an engine that ended by itself: start it again, on the data that it left.

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
    """Once `process` has ended, call `start` until it succeeds, for as long as `is_wanted`. On the event loop only.

    `start` raises what it likes when it fails; it is logged, and tried again after a longer while. A start that
    succeeds watches over its own process.
    """

    async def watch() -> None:
        ended = await process.wait()
        delay = FIRST_DELAY_SECONDS
        while is_wanted():
            logger.warning("%s ended with code %s: starting it again", process.name, ended.code)
            await asyncio.sleep(delay)
            if not is_wanted():
                break
            try:
                await start()
            except Exception as error:
                background.failed(f"start {process.name} again", error)
                delay = min(delay * 4, LONGEST_DELAY_SECONDS)
            else:
                break
        background.succeeded(f"start {process.name} again")

    background.spawn(f"watch {process.name}", watch())
