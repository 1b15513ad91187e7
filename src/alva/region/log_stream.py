"""Writes the output of a container or an engine to CloudWatch Logs, line by line."""

from __future__ import annotations

import asyncio
import logging
import time

from alva.region.background import Background
from alva.region.control_plane import ControlPlane, Json, ServiceError

logger = logging.getLogger(__name__)

FLUSH_DELAY_SECONDS = 0.25
"""How long lines are collected into a batch; AWS's driver waits up to 5 s."""

_MOST_EVENTS, _MOST_BYTES, _EVENT_OVERHEAD_BYTES = 10_000, 1_000_000, 26
"""PutLogEvents' limits for one call (1,048,576 bytes with 26 for each event)."""


class LogStream:
    """One container's stream. `write` never blocks; lines are sent in order, in batches."""

    def __init__(self, background: Background, control_plane: ControlPlane, group: str, stream: str) -> None:
        self._background = background
        self.group = group
        self.stream = stream
        self._control_plane = control_plane
        self._waiting: list[Json] = []
        self._flushing: asyncio.Task[None] | None = None

    async def create(self, *, create_group: bool = False) -> None:
        """Create the stream, and the log group if requested. Raises ServiceError."""
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
        """Add one line; called on the event loop. Empty lines are dropped, since CloudWatch refuses empty events."""
        if not line:
            return
        self._waiting.append({"timestamp": int(time.time() * 1000), "message": line})
        if self._flushing is None or self._flushing.done():
            self._flushing = self._background.spawn(f"send log events to {self.group}", self._flush_soon())

    async def close(self) -> None:
        """Send the remaining lines."""
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
            # A batch must be in order, but the machine's clock may have been set back.
            batch.sort(key=lambda event: event["timestamp"])
            try:
                await self._control_plane.call(
                    "logs", "PutLogEvents", logGroupName=self.group, logStreamName=self.stream, logEvents=batch
                )
            except Exception as error:
                # Drop the batch: the next one may succeed, and a task that ends must not wait for its log.
                logger.warning("%d log events for %s %s are lost", len(batch), self.group, self.stream)
                self._background.failed(f"write log events to {self.group}", error)
            else:
                self._background.succeeded(f"write log events to {self.group}")


def _first_batch(events: list[Json]) -> list[Json]:
    """The first events that fit into one PutLogEvents; at least one."""
    size = 0
    for index, event in enumerate(events[:_MOST_EVENTS]):
        size += len(event["message"].encode()) + _EVENT_OVERHEAD_BYTES
        if size > _MOST_BYTES and index:
            return events[:index]
    return events[:_MOST_EVENTS]
