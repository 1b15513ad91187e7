"""Pagination of long lists."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query

PER_PAGE = 25
LAST_PART = 400
"""The api accepts an offset of at most 10,000 jobs."""


@dataclass(frozen=True)
class Part:
    """One page of a list, counted from 1."""

    number: int

    @property
    def query(self) -> str:
        """The query parameters `limit` and `offset`."""
        return f"limit={PER_PAGE}&offset={(self.number - 1) * PER_PAGE}"

    @property
    def before(self) -> int:
        """The number of the previous page, or 0."""
        return self.number - 1

    def after(self, total: int) -> int:
        """Return the number of the next page of a list of `total` items, or 0."""
        return self.number + 1 if self.number * PER_PAGE < total else 0


def _part(page: Annotated[int, Query(ge=1, le=LAST_PART)] = 1) -> Part:
    return Part(page)


AskedPart = Annotated[Part, Depends(_part)]
