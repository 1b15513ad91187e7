"""The findings of rules."""

from __future__ import annotations

from dataclasses import dataclass

GUESSES = frozenset({"exposed-ports", "writable-tmp"})
"""Rules that can only guess from a Dockerfile: their findings warn, and refuse nothing."""


@dataclass(frozen=True, kw_only=True, order=True)
class Finding:
    """One problem: the rule's name, the subject, and a message."""

    rule: str
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.message}"
