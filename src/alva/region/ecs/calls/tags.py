"""Tags of clusters, services, tasks and task definitions."""

from __future__ import annotations

from alva.region.ecs import render
from alva.region.ecs.errors import invalid_parameter
from alva.region.ecs.model import Json
from alva.region.ecs.state import State

MOST_TAGS = 50


def check_tags(tags: list[Json] | None) -> dict[str, str]:
    """Tags of a request, by key. Raises InvalidParameterException as AWS does for reserved keys or too many."""
    if len(tags or []) > MOST_TAGS:
        raise invalid_parameter("Tag count exceeds the limit of 50.")
    for tag in tags or []:
        if tag["key"].lower().startswith("aws:"):
            raise invalid_parameter("Tag keys that start with aws: are reserved for system use.")
    return {t["key"]: t.get("value", "") for t in tags or []}


def _check_exists(state: State, arn: str) -> None:
    known = (
        arn in state.task_definitions
        or arn in state.services
        or arn in state.tasks
        or any(c.arn == arn for c in state.clusters.values())
    )
    if not known:
        raise invalid_parameter("The specified resource ARN is not valid or does not exist.")


def tag_resource(state: State, request: Json) -> Json:
    """TagResource."""
    _check_exists(state, request["resourceArn"])
    state.tags.setdefault(request["resourceArn"], {}).update(check_tags(request["tags"]))
    return {}


def untag_resource(state: State, request: Json) -> Json:
    """UntagResource."""
    _check_exists(state, request["resourceArn"])
    for key in request["tagKeys"]:
        state.tags.get(request["resourceArn"], {}).pop(key, None)
    return {}


def list_tags_for_resource(state: State, request: Json) -> Json:
    """ListTagsForResource."""
    _check_exists(state, request["resourceArn"])
    return {"tags": render.tags_list(state, request["resourceArn"])}
