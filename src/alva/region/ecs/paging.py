"""Pages of lists in the ECS API."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from alva.region.ecs.errors import invalid_parameter
from alva.region.ecs.model import Json

PAGE = 100
T = TypeVar("T")


def page(key: str, items: Sequence[object], request: Json) -> Json:
    """The page of `nextToken` and `maxResults` (1 to 100) in the request, under `key`."""
    size = request.get("maxResults") or PAGE
    if not 1 <= size <= PAGE:
        raise invalid_parameter("maxResults must be between 1 and 100.")
    start = _offset(request.get("nextToken"))
    answer: Json = {key: list(items[start : start + size])}
    if start + size < len(items):
        answer["nextToken"] = base64.b64encode(str(start + size).encode()).decode()
    return answer


def described(
    key: str, found: Sequence[tuple[str, T | None]], render: Callable[[T], Json], arn: Callable[[str], str] = str
) -> Json:
    """A Describe action's response: the found resources under `key`, and a failure for each missing one."""
    return {
        key: [render(each) for _, each in found if each is not None],
        "failures": [{"arn": arn(reference), "reason": "MISSING"} for reference, each in found if each is None],
    }


def _offset(token: str | None) -> int:
    if not token:
        return 0
    try:
        return int(base64.b64decode(token, validate=True))
    except (binascii.Error, ValueError):
        raise invalid_parameter("Invalid token.") from None
