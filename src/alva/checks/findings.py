"""What a rule finds."""

from __future__ import annotations

from dataclasses import dataclass

GUESSES = frozenset({"exposed-ports", "writable-tmp"})
"""Rules that read a sign of what an image does and cannot know it: what they find warns, and refuses nothing."""


@dataclass(frozen=True, kw_only=True, order=True)
class Finding:
    """One thing that would go wrong: the rule's name, what it is about, and what is wrong with it."""

    rule: str
    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.subject}: {self.message}"
