"""What the command line calls to start, stop and look at a region: the daemon seen from outside."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from alva.region.config import RegionConfig


class RegionError(Exception):
    """The region cannot do what was asked. `evidence` are lines that show why; `next_step` says what to do."""

    def __init__(self, message: str, *, evidence: tuple[str, ...] = (), next_step: str = "") -> None:
        super().__init__(message)
        self.evidence = evidence
        self.next_step = next_step


@dataclass(frozen=True, kw_only=True)
class RegionStatus:
    """Whether a region runs, and as which process."""

    is_running: bool
    pid: int | None = None
    started_at: datetime | None = None
    leftover_pids: tuple[int, ...] = ()
    """Processes of a region that was killed; `stop` ends them."""


def start(config: RegionConfig, *, timeout_seconds: float = 60.0) -> None:
    """Start the region as a detached process and return when it serves; does nothing when it runs already.

    Raises RegionError when a port is in use or the region ends while it starts (with the last lines of its log).
    """
    raise NotImplementedError


def stop(config: RegionConfig, *, timeout_seconds: float = 5.0) -> bool:
    """Stop the region and everything it started; True if anything ran. Also ends what a killed region left behind."""
    raise NotImplementedError


def status(config: RegionConfig) -> RegionStatus:
    """Look at the running file and the process it names (a reused process id is noticed)."""
    raise NotImplementedError


def wipe(config: RegionConfig) -> None:
    """Stop the region and forget its data: state, images, logs."""
    raise NotImplementedError
