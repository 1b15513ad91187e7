"""Reads what `./alva status` shows, and the steps of a running release, as values for the page."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from alva.aws import Aws
from alva.console.release_progress import ReleaseProgress
from alva.errors import AlvaError
from alva.release import status
from alva.release.condition import judge
from alva.release.drift import Drift
from alva.release.manifest import Manifest
from alva.release.rollout import TaskDefinitionImages

SECONDS_BETWEEN_COMPARISONS = 60.0
"""A comparison of what runs with the stacks reads every template, which is too slow for each reading."""


class Environment:
    """Reads one environment repeatedly. Methods can be called from several threads."""

    def __init__(self, aws: Aws, manifest: Manifest) -> None:
        self._aws = aws
        self._manifest = manifest
        self._progress = ReleaseProgress(aws, manifest)
        self._lock = threading.Lock()
        self._drifts: tuple[Drift, ...] = ()
        self._compared_at: float | None = None
        self._compared_release: int | None = None
        self._has_read = False

    def read(self) -> dict[str, Any]:
        """Read everything that the first view shows. Raises AlvaError.

        The first reading omits the comparison with the stacks, so that the page has content sooner.
        """
        with self._lock:
            now = time.monotonic()
            is_due = self._compared_at is None or now - self._compared_at >= SECONDS_BETWEEN_COMPARISONS
            try:
                found = status.read_status(self._aws, self._manifest, with_drift=is_due and self._has_read)
                progress = self._progress.read(found)
            except AlvaError:
                self._aws.once(TaskDefinitionImages).forget()
                self._compared_at, self._has_read = None, False
                raise
            release = found.release.number if found.release is not None else None
            if is_due and self._has_read:
                self._drifts, self._compared_at, self._compared_release = found.drifts, now, release
            elif release != self._compared_release:
                self._compared_at = None  # a release removes drift
            self._has_read = True
            return {
                **asdict(found),
                "outcome_in_words": found.release.outcome_in_words if found.release is not None else "",
                "condition": asdict(judge(replace(found, drifts=self._drifts))),
                "drifts": [str(drift) for drift in self._drifts],
                "lock": str(found.lock) if found.lock is not None else None,
                "at": datetime.now(UTC),
                "progress": progress,
            }
