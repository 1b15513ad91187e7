"""Requested faults: the next calls to a stand-in fail like calls to the real API."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

KINDS = {
    "openai": ("500", "503", "429", "401", "timeout", "refusal", "malformed", "length"),
    "resend": ("500", "429", "timeout"),
}


@dataclass(frozen=True)
class Fault:
    """A fault of one of KINDS; a timeout sends no response for `seconds`."""

    kind: str
    seconds: float = 3600.0


class Faults:
    """The faults of the next calls of each API, in order."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Fault]] = {api: deque() for api in KINDS}

    def add(self, api: str, fault: Fault, count: int = 1) -> None:
        """Make the next `count` calls fail. Raises ValueError for an unknown API or kind."""
        if api not in KINDS or fault.kind not in KINDS[api]:
            known = "; ".join(f"{name}: {', '.join(kinds)}" for name, kinds in KINDS.items())
            raise ValueError(f"cannot make {api} fail with {fault.kind!r}; there are {known}")
        self._waiting[api].extend([fault] * count)

    def next(self, api: str) -> Fault | None:
        """The fault of this call, if any."""
        waiting = self._waiting[api]
        return waiting.popleft() if waiting else None

    def waiting(self) -> dict[str, list[str]]:
        """The pending faults, by API."""
        return {api: [fault.kind for fault in faults] for api, faults in self._waiting.items()}

    def clear(self) -> None:
        """Remove all pending faults."""
        for faults in self._waiting.values():
            faults.clear()
