"""CloudWatch Logs' rules for names, times and order of events, and pages."""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from alva.region.aws_error import AwsError
from alva.region.filter_patterns import PatternError, compile_pattern

Json = dict[str, Any]
Forward = Callable[[str, Json], Awaitable[Json]]

_HOUR = 3600 * 1000
_DAY = 24 * _HOUR
_MOST_FUTURE = 2 * _HOUR
_MOST_PAST = 14 * _DAY
_MOST_BYTES = 1_048_576
_BYTES_PER_EVENT = 26
_MOST_EVENTS_OF_A_PAGE = 10_000
# MiniStack adds the name to AWS's message.
_NAMED = re.compile(
    r"(The specified (?:log group|log stream|subscription filter|metric filter) (?:does not exist|already exists)): .*"
)


def check_events(request: Json) -> None:
    """PutLogEvents refuses a batch that is too large, out of order, or longer than a day.

    https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_PutLogEvents.html
    """
    times = [event["timestamp"] for event in request["logEvents"]]
    if any(later < earlier for earlier, later in itertools.pairwise(times)):
        raise _invalid("Log events in a single PutLogEvents request must be in chronological order.")
    if times[-1] - times[0] > _DAY:
        raise _invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
    size = sum(len(event["message"].encode()) + _BYTES_PER_EVENT for event in request["logEvents"])
    if size > _MOST_BYTES:
        raise _invalid(f"Upload too large: {size} bytes exceeds limit of {_MOST_BYTES}")


async def put_events(request: Json, forward: Forward) -> Json:
    """PutLogEvents keeps events with a valid time, and returns which ones it has rejected."""
    now, events = int(time.time() * 1000), request["logEvents"]
    cutoff = now - _MOST_PAST
    if events[0]["timestamp"] < now - _DAY:
        groups = await forward("DescribeLogGroups", {"logGroupNamePrefix": request["logGroupName"]})
        named = [each for each in groups["logGroups"] if each["logGroupName"] == request["logGroupName"]]
        group: Json = named[0] if named else {}
        retained_since = now - group.get("retentionInDays", 36500) * _DAY
    else:
        retained_since = cutoff
    too_old = sum(event["timestamp"] < cutoff for event in events)
    expired = sum(event["timestamp"] < retained_since for event in events)
    too_new = sum(event["timestamp"] > now + _MOST_FUTURE for event in events)
    rejected = {
        **({"tooNewLogEventStartIndex": len(events) - too_new} if too_new else {}),
        **({"tooOldLogEventEndIndex": too_old} if too_old else {}),
        **({"expiredLogEventEndIndex": expired} if expired > too_old else {}),
    }
    kept = events[max(too_old, expired) : len(events) - too_new]
    answer = await with_aws_messages("PutLogEvents", {**request, "logEvents": kept}, forward)
    return {**answer, "rejectedLogEventsInfo": rejected} if rejected else answer


async def filter_events(request: Json, forward: Forward) -> Json:
    """FilterLogEvents in pages: a token is the time and the id of the last returned event.

    Patterns are matched here, over all events that MiniStack returns without one.
    """
    pattern, limit = request.get("filterPattern"), request.get("limit", _MOST_EVENTS_OF_A_PAGE)
    matches = compile_pattern(pattern or "")
    last = _read_token(request["nextToken"]) if "nextToken" in request else None
    asked = {key: value for key, value in request.items() if key not in ("filterPattern", "nextToken")}
    asked["limit"] = _MOST_EVENTS_OF_A_PAGE if pattern or last else min(limit + 1, _MOST_EVENTS_OF_A_PAGE)
    found: list[Json] = []
    while True:
        if last is not None:
            asked["startTime"] = last[0]
        answer = await with_aws_messages("FilterLogEvents", asked, forward)
        events = answer["events"]
        shown = next((index for index, event in enumerate(events) if last and event["eventId"] == last[1]), -1)
        found += [event for event in events[shown + 1 :] if matches(event["message"])]
        if len(found) > limit or len(events) < asked["limit"] or shown + 1 == len(events):
            break
        last = events[-1]["timestamp"], events[-1]["eventId"]
        await asyncio.sleep(0)  # Other requests are served between two pages.
    if len(found) > limit:
        end = found[limit - 1]
        answer["nextToken"] = base64.b64encode(f"{end['timestamp']}/{end['eventId']}".encode()).decode()
    return {**answer, "events": found[:limit]}


def _read_token(token: str) -> tuple[int, str]:
    try:
        moment, _, event_id = base64.b64decode(token, validate=True).decode().partition("/")
        return int(moment), event_id
    except ValueError as error:
        raise _invalid("The specified nextToken is invalid.") from error


def check_group_names(request: Json) -> None:
    """DescribeLogGroups accepts a prefix or a pattern, not both."""
    if request.get("logGroupNamePrefix") and request.get("logGroupNamePattern"):
        raise _invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")


def check_pattern(request: Json) -> None:
    """FilterLogEvents and filters refuse an invalid pattern."""
    try:
        compile_pattern(request.get("filterPattern") or "")
    except PatternError as error:
        raise _invalid(str(error)) from error


def check_query(request: Json) -> None:
    """StartQuery: https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/API_StartQuery.html"""
    if request["startTime"] > request["endTime"]:
        raise AwsError("MalformedQueryException", "end date and time is either before the start date and time")


async def with_aws_messages(action: str, request: Json, forward: Forward) -> Json:
    """MiniStack's response, with AWS's messages in its errors."""
    try:
        return await forward(action, request)
    except AwsError as error:
        if found := _NAMED.fullmatch(error.message):
            end = "" if "already" in found[1] else "."
            raise AwsError(error.code, found[1] + end, error.status) from error
        raise


def _with_messages_of(action: str) -> Callable[[Json, Forward], Awaitable[Json]]:
    async def answer(request: Json, forward: Forward) -> Json:
        return await with_aws_messages(action, request, forward)

    return answer


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterException", message)


_WORDED = (
    "CreateLogGroup", "CreateLogStream", "DeleteLogGroup", "DeleteLogStream", "DeleteSubscriptionFilter",
    "DescribeLogStreams", "GetLogEvents", "PutMetricFilter", "PutRetentionPolicy", "PutSubscriptionFilter",
)  # fmt: skip
CHECKS: Mapping[str, Callable[[Json], None]] = {
    "DescribeLogGroups": check_group_names,
    "FilterLogEvents": check_pattern,
    "PutLogEvents": check_events,
    "PutMetricFilter": check_pattern,
    "PutSubscriptionFilter": check_pattern,
    "StartQuery": check_query,
}
ANSWERS: Mapping[str, Callable[[Json, Forward], Awaitable[Json]]] = {
    "FilterLogEvents": filter_events,
    "PutLogEvents": put_events,
    **{action: _with_messages_of(action) for action in _WORDED},
}
