"""Failures on demand: the next calls to a stand-in fail the way the real API fails."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

KINDS = {
    "openai": ("500", "503", "429", "401", "timeout", "refusal", "malformed", "length"),
    "resend": ("500", "429", "timeout"),
}


@dataclass(frozen=True)
class Fault:
    """A kind of failure, `kind` one of KINDS; a timeout is `seconds` of silence."""

    kind: str
    seconds: float = 3600.0


class Faults:
    """What the next calls of each API will meet, in order."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Fault]] = {api: deque() for api in KINDS}

    def add(self, api: str, fault: Fault, count: int = 1) -> None:
        """Let the next `count` calls fail. Raises ValueError for an API or a kind that there is not."""
        if api not in KINDS or fault.kind not in KINDS[api]:
            known = "; ".join(f"{name}: {', '.join(kinds)}" for name, kinds in KINDS.items())
            raise ValueError(f"cannot make {api} fail with {fault.kind!r}; there are {known}")
        self._waiting[api].extend([fault] * count)

    def next(self, api: str) -> Fault | None:
        """The fault that this call meets, if any."""
        waiting = self._waiting[api]
        return waiting.popleft() if waiting else None

    def waiting(self) -> dict[str, list[str]]:
        """The kinds still to come, by API."""
        return {api: [fault.kind for fault in faults] for api, faults in self._waiting.items()}

    def clear(self) -> None:
        """Let everything succeed again."""
        for faults in self._waiting.values():
            faults.clear()
