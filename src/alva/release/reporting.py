"""How the engine tells what it is doing; the CLI decides how that looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Reporter(Protocol):
    """Told about steps as they happen, from several threads at once."""

    def expect(self, step_seconds: Mapping[str, float]) -> None:
        """How long steps took the last time, by key: what to expect."""

    def step_started(self, key: str, title: str) -> None:
        """A step began; `key` is its name among the steps."""

    def step_line(self, key: str, text: str) -> None:
        """Something happened inside a step: a stack event, a line of the migration's log."""

    def step_finished(self, key: str, outcome: str, detail: str = "") -> None:
        """A step ended as `outcome`: done, unchanged, failed, or cancelled."""

    def note(self, text: str) -> None:
        """Something worth a line that belongs to no step."""


class Silent:
    """Reports nothing: for callers that only want the result."""

    def expect(self, step_seconds: Mapping[str, float]) -> None:
        """Nothing."""

    def step_started(self, key: str, title: str) -> None:
        """Nothing."""

    def step_line(self, key: str, text: str) -> None:
        """Nothing."""

    def step_finished(self, key: str, outcome: str, detail: str = "") -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""
