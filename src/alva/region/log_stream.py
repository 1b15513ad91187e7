"""What a container or an engine prints, line by line, into CloudWatch Logs."""

from __future__ import annotations

import asyncio
import logging
import time

from alva.region.background import Background
from alva.region.control_plane import ControlPlane, Json, ServiceError

logger = logging.getLogger(__name__)

FLUSH_DELAY_SECONDS = 0.25
"""How long a line waits for company; the driver of AWS waits up to 5 s."""

_MOST_EVENTS, _MOST_BYTES, _EVENT_OVERHEAD_BYTES = 10_000, 1_000_000, 26
"""PutLogEvents' limits for one call (1,048,576 bytes with 26 for each event)."""


class LogStream:
    """One container's stream. `write` never blocks; what was written is sent in order, in batches."""

    def __init__(self, background: Background, control_plane: ControlPlane, group: str, stream: str) -> None:
        self._background = background
        self.group = group
        self.stream = stream
        self._control_plane = control_plane
        self._waiting: list[Json] = []
        self._flushing: asyncio.Task[None] | None = None

    async def create(self, *, create_group: bool = False) -> None:
        """Make the stream, and the log group where asked for. Raises ServiceError."""
        if create_group:
            await self._create_group()
        await self._control_plane.call("logs", "CreateLogStream", logGroupName=self.group, logStreamName=self.stream)

    @property
    def group_arn(self) -> str:
        """The ARN of the log group."""
        return f"arn:aws:logs:{self._control_plane.region}:{self._control_plane.account_id}:log-group:{self.group}"

    async def _create_group(self) -> None:
        try:
            await self._control_plane.call("logs", "CreateLogGroup", logGroupName=self.group)
        except ServiceError as error:
            if error.code != "ResourceAlreadyExistsException":
                raise

    def write(self, line: str) -> None:
        """Take one line; called on the event loop. Empty lines are dropped, as CloudWatch refuses empty events."""
        if not line:
            return
        self._waiting.append({"timestamp": int(time.time() * 1000), "message": line})
        if self._flushing is None or self._flushing.done():
            self._flushing = self._background.spawn(f"send log events to {self.group}", self._flush_soon())

    async def close(self) -> None:
        """Send what is left."""
        if self._flushing is not None:
            await self._flushing
        await self._flush()

    async def _flush_soon(self) -> None:
        await asyncio.sleep(FLUSH_DELAY_SECONDS)
        await self._flush()

    async def _flush(self) -> None:
        while self._waiting:
            batch = _first_batch(self._waiting)
            del self._waiting[: len(batch)]
            # The machine's clock may have been set back between two lines; a batch has to be in order.
            batch.sort(key=lambda event: event["timestamp"])
            try:
                await self._control_plane.call(
                    "logs", "PutLogEvents", logGroupName=self.group, logStreamName=self.stream, logEvents=batch
                )
            except Exception as error:
                # The next batch may pass, and a task that ends must not wait for its log.
                logger.warning("%d log events for %s %s are lost", len(batch), self.group, self.stream)
                self._background.failed(f"write log events to {self.group}", error)
            else:
                self._background.succeeded(f"write log events to {self.group}")


def _first_batch(events: list[Json]) -> list[Json]:
    """As many of the first events as one PutLogEvents takes; at least one."""
    size = 0
    for index, event in enumerate(events[:_MOST_EVENTS]):
        size += len(event["message"].encode()) + _EVENT_OVERHEAD_BYTES
        if size > _MOST_BYTES and index:
            return events[:index]
    return events[:_MOST_EVENTS]
