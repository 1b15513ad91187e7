"""The input and the findings of rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alva.checks.assembly import Assembly

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


@dataclass(frozen=True)
class Inputs:
    """The input of rules: the templates, and the sources of the images."""

    assembly: Assembly
    repository: Path
