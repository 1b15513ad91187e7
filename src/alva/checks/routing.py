"""Evaluates the load balancer's rules: which service gets a request."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from alva.checks.assembly import Assembly, Reference, Resource
from alva.errors import AlvaError


@dataclass(frozen=True, kw_only=True)
class ListenerRule:
    """A listener rule with its conditions, by field."""

    resource: Resource
    listener: Reference
    priority: int
    conditions: Mapping[str, Sequence[str]]
    target_group: Resource | None
    """None if the rule responds or redirects itself."""

    def matches(self, path: str, host: str) -> bool:
        """Whether a request matches, from an address that is on no allowlist.

        Path patterns are case-sensitive, hosts are not; `*` matches any characters, including `/`.
        https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html
        """
        for field, values in self.conditions.items():
            if field == "path-pattern" and not any(_matches(value, path) for value in values):
                return False
            if field == "host-header" and not any(_matches(value.lower(), host.lower()) for value in values):
                return False
        return True


def listener_rules(assembly: Assembly) -> list[ListenerRule]:
    """Return all rules, in the order of their evaluation."""
    rules = []
    for each in assembly.of_type("ElasticLoadBalancingV2::ListenerRule"):
        listener = assembly.target(each.properties["ListenerArn"])
        if listener is None:
            raise AlvaError(
                f"cannot check {each}: the templates lack its listener",
                next_step="correct infrastructure/, then ./alva synth",
            )
        forward = next((action for action in each.properties["Actions"] if action["Type"] == "forward"), None)
        rules.append(
            ListenerRule(
                resource=each,
                listener=listener.reference,
                priority=int(each.properties["Priority"]),
                conditions={condition["Field"]: _values(condition) for condition in each.properties["Conditions"]},
                target_group=assembly.target(forward["TargetGroupArn"]) if forward else None,
            )
        )
    return sorted(rules, key=lambda rule: (str(rule.listener), rule.priority))


def served_by(rules: Sequence[ListenerRule], path: str, host: str = "example.com") -> Resource | None:
    """Return the target group of a request from an address on every allowlist; None if no rule forwards it."""
    for rule in rules:
        if rule.matches(path, host):
            return rule.target_group
    return None


def probes(pattern: str) -> list[str]:
    """Return the paths that a pattern should cover: `/admin/*` stands for /admin, /admin/ and /admin/x."""
    if pattern.endswith("/*"):
        folder = pattern.removesuffix("/*")
        return [*([folder] if folder else []), f"{folder}/", f"{folder}/x", f"{folder}/x/y"]
    return [pattern]


def _values(condition: Mapping[str, Any]) -> Sequence[str]:
    for key, value in condition.items():
        if key.endswith("Config"):
            return list(value["Values"])
    return list(condition["Values"])


def _matches(pattern: str, value: str) -> bool:
    # `[` is not a wildcard for a load balancer.
    return re.match(fnmatch.translate(pattern.replace("[", "[[]")), value) is not None
