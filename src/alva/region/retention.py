"""Deletes old data that would otherwise grow without limit: log events, datapoints, events, histories, log files.

AWS has retention rules for most of it; MiniStack, and programs with a log file, delete nothing.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from ministack.services import cloudwatch, eventbridge

from alva.region import log_events
from alva.region.cloudwatch.metrics import Metrics

INTERVAL_SECONDS = 15.0
DATAPOINT_SECONDS = 3 * 3600
"""CloudWatch keeps points of less than a minute's resolution for three hours, and those of a minute for 15 days. Here
it is three hours, since no alarm evaluates older points:
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html
"""
HISTORY_ENTRIES = 1_000
"""The limit of kept entries of sent events and alarm histories, which AWS deletes by age."""
LOG_FILE_BYTES = 10 * 2**20


class Retention:
    """Deletes old data every few seconds."""

    def __init__(self, logs_folder: Path, metrics: Metrics) -> None:
        self._logs_folder = logs_folder
        self._metrics = metrics

    async def step(self) -> None:
        """Wait, then delete once."""
        await asyncio.sleep(INTERVAL_SECONDS)
        now = time.time()
        log_events.expire(now)
        self._metrics.delete_before(now - DATAPOINT_SECONDS)
        for entries in (*eventbridge._events_log.all_values(), *cloudwatch._alarm_history.all_values()):
            del entries[:-HISTORY_ENTRIES]
        await asyncio.to_thread(rotate_files, self._logs_folder)


def rotate_files(folder: Path) -> None:
    """Keep only the last part of each log file that is too long.

    The file is truncated in place, since other processes have it open for appending.
    """
    for file in folder.glob("*.log"):
        if file.stat().st_size <= LOG_FILE_BYTES:
            continue
        with file.open("rb+") as log:
            log.seek(-LOG_FILE_BYTES // 2, 2)
            log.readline()
            kept = log.read()
            file.with_name(file.name + ".1").write_bytes(kept)
            log.truncate(0)
