"""The awslogs driver: a container's output, line by line, into CloudWatch Logs."""

from __future__ import annotations

import asyncio
import logging
import time

from alva.region.ecs.control_plane import ControlPlane, ServiceError
from alva.region.ecs.errors import TaskStartError
from alva.region.ecs.model import Json
from alva.region.ecs.permissions import Role

logger = logging.getLogger(__name__)

FLUSH_DELAY_SECONDS = 0.25
"""How long a line waits for company; the driver of AWS waits up to 5 s."""

_MOST_EVENTS, _MOST_BYTES, _EVENT_OVERHEAD_BYTES = 10_000, 1_000_000, 26
"""PutLogEvents' limits for one call (1,048,576 bytes with 26 for each event)."""


class LogStream:
    """One container's stream. `write` never blocks; what was written is sent in order, in batches."""

    def __init__(self, control_plane: ControlPlane, group: str, stream: str) -> None:
        self.group = group
        self.stream = stream
        self._control_plane = control_plane
        self._waiting: list[Json] = []
        self._flushing: asyncio.Task[None] | None = None

    async def create(self, role: Role, *, create_group: bool = False) -> None:
        """Make the stream. Raises TaskStartError in AWS's words: no such log group, or the role may not write there."""
        arn = f"arn:aws:logs:{self._control_plane.region}:{self._control_plane.account_id}:log-group:{self.group}"
        try:
            if create_group:
                role.check("logs:CreateLogGroup", arn)
            for action in ("CreateLogStream", "PutLogEvents"):
                role.check(f"logs:{action}", f"{arn}:log-stream:{self.stream}")
            if create_group:
                await self._create_group()
            await self._control_plane.call(
                "logs", "CreateLogStream", logGroupName=self.group, logStreamName=self.stream
            )
        except ServiceError as error:
            raise TaskStartError(
                "ResourceInitializationError: failed to validate logger args: create stream has been retried 1 times: "
                "failed to create Cloudwatch log stream: operation error CloudWatch Logs: CreateLogStream, "
                f"https response error StatusCode: 400, {error} : exit status 1"
            ) from error

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
            self._flushing = asyncio.get_running_loop().create_task(self._flush_soon())

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
            try:
                await self._control_plane.call(
                    "logs", "PutLogEvents", logGroupName=self.group, logStreamName=self.stream, logEvents=batch
                )
            except ServiceError as error:
                logger.warning("cannot write %d log events to %s %s: %s", len(batch), self.group, self.stream, error)


def _first_batch(events: list[Json]) -> list[Json]:
    """As many of the first events as one PutLogEvents takes; at least one."""
    size = 0
    for index, event in enumerate(events[:_MOST_EVENTS]):
        size += len(event["message"].encode()) + _EVENT_OVERHEAD_BYTES
        if size > _MOST_BYTES and index:
            return events[:index]
    return events[:_MOST_EVENTS]
