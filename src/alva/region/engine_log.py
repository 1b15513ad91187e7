"""Writes a database's or cache's output to a file, and to CloudWatch Logs if its record enables that."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Callable
from pathlib import Path

from alva.region.background import Background
from alva.region.config import RegionConfig
from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.log_stream import LogStream

logger = logging.getLogger("alva.region")


class EngineLog:
    """Writes an engine's lines. Used on the event loop."""

    def __init__(
        self,
        background: Background,
        config: RegionConfig,
        file: Path,
        *,
        stream: str,
        group: Callable[[], str | None],
        event: Callable[[str], str] = str,
    ) -> None:
        """`group` returns the log group for each line, or None; `event` formats the message."""
        self._background = background
        self._control_plane = ControlPlane(config.account_id, config.region)
        self._file = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        weakref.finalize(self, os.close, self._file)
        self._stream_name = stream
        self._group = group
        self._event = event
        self._stream: LogStream | None = None

    def write(self, line: str) -> None:
        """Write one line."""
        os.write(self._file, f"{line}\n".encode())
        group = self._group()
        if group is None or not line:
            return
        if self._stream is None or self._stream.group != group:
            self._stream = LogStream(self._background, self._control_plane, group, self._stream_name)
            self._background.spawn(f"create log group {group}", self._make(self._stream))
        self._stream.write(self._event(line))

    async def _make(self, stream: LogStream) -> None:
        """Create the log group, as RDS and ElastiCache do, and the stream."""
        try:
            await stream.create(create_group=True)
        except ServiceError as error:
            if error.code != "ResourceAlreadyExistsException":
                logger.error("cannot write to log group %s: %s", stream.group, error)
