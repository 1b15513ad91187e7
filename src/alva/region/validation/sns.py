"""SNS's rules that are not in its model: the names of topics, and the tags of a topic that exists.

https://docs.aws.amazon.com/sns/latest/api/API_CreateTopic.html (Name); the messages are those of
https://github.com/localstack/localstack/issues/2405 and of LocalStack's provider, which is tested against AWS.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from alva.region.aws_error import AwsError
from alva.region.control_plane import ServiceError, call

Json = dict[str, Any]
Forward = Callable[[str, Json], Awaitable[Json]]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}|[A-Za-z0-9_-]{1,251}\.fifo")


def check_name(request: Json) -> None:
    """CreateTopic."""
    if not _NAME.fullmatch(request["Name"]):
        raise AwsError("InvalidParameter", "Invalid parameter: Topic Name")


async def check_tags(request: Json, forward: Forward) -> None:
    """CreateTopic returns a topic that exists, unless the request has other tags."""
    from ministack.core.responses import get_account_id, get_region

    del forward
    given = request.get("Tags") or []
    arn = f"arn:aws:sns:{get_region()}:{get_account_id()}:{request['Name']}"
    try:
        answer = await call("sns", "ListTagsForResource", {"ResourceArn": arn})
    except ServiceError:  # There is no such topic.
        return
    if any(tag not in answer["Tags"] for tag in given):
        raise AwsError("InvalidParameter", "Invalid parameter: Tags Reason: Topic already exists with different tags")


CHECKS: Mapping[str, Callable[[Json], None]] = {"CreateTopic": check_name}
REFERENCES: Mapping[str, Callable[[Json, Forward], Awaitable[None]]] = {"CreateTopic": check_tags}
