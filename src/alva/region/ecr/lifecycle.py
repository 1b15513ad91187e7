"""Decides which images a repository's lifecycle policy expires.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/LifecyclePolicies.html: rules in the order of their priority;
later rules ignore an image that a rule has selected, whether it expires or not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

_DAY_SECONDS = 86400.0


def expired(images: Sequence[Mapping[str, Any]], policy_text: str, now: float) -> list[str]:
    """The digests of those of `images` (DescribeImages' `imageDetails`) that expire at `now`, in seconds since 1970."""
    left = sorted(images, key=lambda image: float(image["imagePushedAt"]), reverse=True)
    gone: list[str] = []
    for rule in sorted(json.loads(policy_text)["rules"], key=lambda rule: int(rule["rulePriority"])):
        selection = rule["selection"]
        selected = [image for image in left if _selects(selection, image.get("imageTags") or [])]
        left = [image for image in left if image not in selected]
        number = int(selection["countNumber"])
        if selection["countType"] == "imageCountMoreThan":
            late = selected[number:]
        elif selection["countType"] == "sinceImagePushed":
            late = [image for image in selected if now - float(image["imagePushedAt"]) > number * _DAY_SECONDS]
        else:
            late = []
        gone += [str(image["imageDigest"]) for image in late]
    return gone


def _selects(selection: Mapping[str, Any], tags: Sequence[str]) -> bool:
    match selection["tagStatus"]:
        case "any":
            return True
        case "untagged":
            return not tags
        case _:
            # An image is selected only when it has a tag of each prefix.
            prefixes = selection.get("tagPrefixList") or []
            return bool(tags) and all(any(tag.startswith(prefix) for tag in tags) for prefix in prefixes)
