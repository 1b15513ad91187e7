"""Pages of a long list: which part is asked for, and what lies before and after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

PER_PAGE = 25
LAST_PART = 400
"""The api skips over 10 000 jobs at most."""


@dataclass(frozen=True)
class Part:
    """One page of a list, counted from 1."""

    number: int

    @property
    def query(self) -> str:
        """The part as the services' query."""
        return f"limit={PER_PAGE}&offset={(self.number - 1) * PER_PAGE}"

    @property
    def before(self) -> int:
        """The number of the page before, 0 where there is none."""
        return self.number - 1

    def after(self, total: int) -> int:
        """The number of the page after in a list of `total`, 0 where there is none."""
        return self.number + 1 if self.number * PER_PAGE < total else 0


def _part(page: Annotated[int, Query(ge=1, le=LAST_PART)] = 1) -> Part:
    return Part(page)


AskedPart = Annotated[Part, Depends(_part)]
