"""Images that a lifecycle policy expires: the registry stack's policy, with images of several kinds."""

from __future__ import annotations

import json
from typing import Any

from alva.region.ecr.lifecycle import expired

DAY = 86400.0


def policy(*selections: dict[str, Any]) -> str:
    rules = [
        {"rulePriority": number, "selection": selection, "action": {"type": "expire"}}
        for number, selection in enumerate(selections, start=1)
    ]
    return json.dumps({"rules": list(reversed(rules))})


def image(name: str, pushed: float, *tags: str) -> dict[str, Any]:
    return {"imageDigest": name, "imagePushedAt": pushed, "imageTags": list(tags)}


def test_image_that_a_rule_selects_is_left_alone_by_the_rules_after_it() -> None:
    images = [
        image("old-release", 1, "a", "released-1"),
        image("release", 2, "b", "released-2"),
        image("build-1", 3, "c"),
        image("build-2", 4, "d"),
    ]
    released = {"tagStatus": "tagged", "tagPrefixList": ["released-"], "countType": "imageCountMoreThan"}
    text = policy(
        {**released, "countNumber": 1}, {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1}
    )
    assert expired(images, text, now=5) == ["old-release", "build-1"]


def test_untagged_images_expire_after_their_days() -> None:
    images = [image("young", 9 * DAY), image("old", 8 * DAY), image("tagged", 1 * DAY, "x")]
    rule = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 1}
    assert expired(images, policy(rule), now=9.5 * DAY) == ["old"]
