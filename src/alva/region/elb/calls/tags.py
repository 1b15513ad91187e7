"""Tags of load balancers, listeners, rules and target groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from alva.region.elb import describing
from alva.region.elb.calls.support import Json, tags_of
from alva.region.elb.refusals import Invalid
from alva.region.elb.store import Store

Tags = Mapping[str, str]


def add_tags(store: Store, request: Json) -> Json:
    """AddTags."""
    changes = [(_setter(store, arn), tags_of(request, _tags(store, arn))) for arn in request["ResourceArns"]]
    for set_tags, tags in changes:
        set_tags(tags)
    return {}


def remove_tags(store: Store, request: Json) -> Json:
    """RemoveTags; keys that a resource does not have are ignored."""
    gone = request["TagKeys"]
    changes = [(_setter(store, arn), _tags(store, arn)) for arn in request["ResourceArns"]]
    for set_tags, tags in changes:
        set_tags({key: value for key, value in tags.items() if key not in gone})
    return {}


def describe_tags(store: Store, request: Json) -> Json:
    """DescribeTags, of at most 20 resources."""
    if len(request["ResourceArns"]) > 20:
        raise Invalid("You can describe the tags of at most 20 resources in one call")
    return {
        "TagDescriptions": [
            {"ResourceArn": arn, "Tags": describing.pairs(_tags(store, arn))} for arn in request["ResourceArns"]
        ]
    }


def _kind(arn: str) -> str:
    return arn.split(":", 5)[-1].partition("/")[0]


def _tags(store: Store, arn: str) -> Tags:
    match _kind(arn):
        case "loadbalancer":
            return store.load_balancer(arn).tags
        case "targetgroup":
            return store.target_group(arn).tags
        case "listener":
            return store.listener(arn).tags
        case "listener-rule":
            return store.rule(arn)[1].tags
    raise Invalid(f"'{arn}' is not a valid ARN")


def _setter(store: Store, arn: str) -> Callable[[Tags], None]:
    """A function that sets the tags of an ARN's resource. It looks up the resource when it is called."""

    def set_tags(tags: Tags) -> None:
        match _kind(arn):
            case "loadbalancer":
                store.load_balancers[arn] = replace(store.load_balancer(arn), tags=tags)
            case "targetgroup":
                store.target_groups[arn] = replace(store.target_group(arn), tags=tags)
            case "listener":
                store.put_listener(replace(store.listener(arn), tags=tags))
            case _:
                listener, rule = store.rule(arn)
                store.put_listener(listener.with_rule(replace(rule, tags=tags)))

    return set_tags
