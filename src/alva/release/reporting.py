"""How the engine reports progress; the command line decides how to show it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Reporter(Protocol):
    """Receives the events of steps, from several threads at once. A subclass implements what it needs."""

    def expect(self, step_seconds: Mapping[str, float]) -> None:
        """Set the durations of the last release's steps, by key."""

    def step_started(self, key: str, title: str) -> None:
        """A step started; `key` identifies it."""

    def step_line(self, key: str, text: str) -> None:
        """A line of a step: a stack event, or a line of the migration's log."""

    def step_finished(self, key: str, outcome: str, detail: str = "") -> None:
        """A step ended with `outcome`: done, unchanged, failed, or cancelled."""

    def note(self, text: str) -> None:
        """A line that belongs to no step."""
