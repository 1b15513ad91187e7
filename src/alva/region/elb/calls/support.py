"""Shared code of several actions: pages, names, tags, and the actions of a listener or a rule."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from alva.region.elb import reading
from alva.region.elb.records import Action, target_groups_of
from alva.region.elb.refusals import Invalid
from alva.region.elb.store import Store

Json = dict[str, Any]
Record = TypeVar("Record")

LARGEST_PAGE = 400
MOST_TAGS = 50
MOST_TARGET_GROUPS = 100
"""AWS's quotas of a load balancer.
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html"""


def page(
    name: str,
    records: Sequence[Record],
    request: Mapping[str, Any],
    key: Callable[[Record], str],
    described: Callable[[Record], Json],
) -> Json:
    """The page of `records` for the request's PageSize and Marker, described under `name`."""
    size = min(request.get("PageSize") or LARGEST_PAGE, LARGEST_PAGE)
    start = 0
    if marker := request.get("Marker"):
        last = _decoded(marker)
        start = next((index for index, each in enumerate(records, start=1) if key(each) == last), -1)
        if start < 0:
            raise Invalid(f"The marker '{marker}' is not valid")
    shown = records[start : start + size]
    is_last = start + size >= len(records)
    next_marker = None if is_last else base64.urlsafe_b64encode(key(shown[-1]).encode()).decode()
    return {name: [described(each) for each in shown], "NextMarker": next_marker}


def _decoded(marker: str) -> str:
    try:
        return base64.urlsafe_b64decode(marker.encode()).decode()
    except ValueError:
        return ""


def check_name(name: str, what: str) -> None:
    """Raise Invalid unless AWS accepts the name of a load balancer or a target group.

    At most 32 characters, letters, digits and hyphens, none of them at either end.
    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html
    """
    if not name:
        raise Invalid(f"{what} name cannot be empty")
    if len(name) > 32:
        raise Invalid(f"{what} name '{name}' cannot be longer than '32' characters")
    if not re.fullmatch("[A-Za-z0-9-]+", name):
        raise Invalid(
            f"{what} name '{name}' can only contain characters that are alphanumeric characters or hyphens(-)"
        )
    if name.startswith("-") or name.endswith("-"):
        raise Invalid(f"{what} name '{name}' cannot begin or end with '-'")


def tags_of(request: Mapping[str, Any], current: Mapping[str, str] | None = None) -> dict[str, str]:
    """A resource's tags after a request: at most 50, and each key once in the request."""
    given = request.get("Tags") or []
    keys = [tag["Key"] for tag in given]
    for key in keys:
        if keys.count(key) > 1:
            raise Invalid(f"Tag key '{key}' is specified more than once", "DuplicateTagKeys")
    tags = dict(current or {}) | {tag["Key"]: tag.get("Value") or "" for tag in given}
    if sum(not key.startswith("aws:") for key in tags) > MOST_TAGS:
        raise Invalid(f"A resource can have at most {MOST_TAGS} tags", "TooManyTags")
    return tags


def attributes_of(request: Mapping[str, Any]) -> dict[str, str]:
    """The attributes of a Modify...Attributes call."""
    if any(not item.get("Key") for item in request["Attributes"]):
        raise Invalid("An attribute key must be specified")
    return {item["Key"]: item.get("Value") or "" for item in request["Attributes"]}


def read_action(store: Store, actions: Iterable[Json], load_balancer_arn: str, protocol: str) -> Action:
    """The action of a rule or listener. Its target groups must exist and not belong to another load balancer."""
    action = reading.action(actions)
    reading.check_redirect_protocol(action, protocol)
    for arn in target_groups_of(action):
        store.target_group(arn)
        if any(user != load_balancer_arn for user in store.users_of(arn)):
            raise Invalid(
                f"The following target groups cannot be associated with more than one load balancer: {arn}",
                "TargetGroupAssociationLimit",
            )
    used = {*store.load_balancer(load_balancer_arn).target_groups(), *target_groups_of(action)}
    if len(used) > MOST_TARGET_GROUPS:
        raise Invalid(
            f"A load balancer can have at most {MOST_TARGET_GROUPS} target groups",
            "TooManyUniqueTargetGroupsPerLoadBalancer",
        )
    return action
