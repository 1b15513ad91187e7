"""Dynamic references: `{{resolve:ssm:...}}` and `{{resolve:secretsmanager:...}}` in a resource's properties.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ministack.services import secretsmanager, ssm

from alva.region.cloudformation.intrinsics import TemplateError

PATTERN = re.compile(r"\{\{resolve:([a-z-]+):([^}]*)\}\}")


def resolve(
    value: Any, previous: Mapping[str, str], *, reuse_parameters: bool, reuse_secrets: bool
) -> tuple[Any, dict[str, str]]:
    """The value with every reference replaced, and the value of each reference.

    `previous` are those of the resource's last operation: a parameter is read again when the template or its parameters
    changed, a secret when the resource that refers to it changed. Raises TemplateError where there is no value.
    """
    found: dict[str, str] = {}

    def read(reference: re.Match[str]) -> str:
        literal = reference[0]
        if literal not in found:
            reuse = reuse_secrets if reference[1] == "secretsmanager" else reuse_parameters
            is_known = reuse and literal in previous
            found[literal] = previous[literal] if is_known else _read(literal, reference[1], reference[2])
        return found[literal]

    def walk(node: Any) -> Any:
        if isinstance(node, str):
            return PATTERN.sub(read, node)
        if isinstance(node, dict):
            return {key: walk(item) for key, item in node.items()}
        return [walk(item) for item in node] if isinstance(node, list) else node

    return walk(value), found


def _read(literal: str, service: str, body: str) -> str:
    if service != "secretsmanager":
        name, _, version = body.partition(":")
        value = ssm.resolve_parameter_value(name, version or None, decrypt=True)
        if value is None:
            raise _unresolved(literal, f"parameter {name}{f' version {version}' if version else ''} not found")
        return str(value)
    parts = body.split(":")
    length = 7 if body.startswith("arn:") else 1
    secret, rest = ":".join(parts[:length]), [*parts[length:], "", "", "", ""]
    kind, key, stage, version = rest[:4]
    if kind not in ("", "SecretString"):
        raise _unresolved(literal, "the secret-string segment must be SecretString")
    if stage and version:
        raise _unresolved(literal, "specify either a version stage or a version id, not both")
    text = secretsmanager.resolve_secret_string(secret, stage or "AWSCURRENT", version or None)
    if text is None:
        raise _unresolved(literal, f"secret {secret} not found")
    if not key:
        return str(text)
    try:
        member = json.loads(text)[key]
    except (ValueError, KeyError, TypeError):
        raise _unresolved(literal, f"key {key} not found in the secret") from None
    return member if isinstance(member, str) else json.dumps(member)


def _unresolved(literal: str, reason: str) -> TemplateError:
    return TemplateError(f"Dynamic reference {literal} could not be resolved: {reason}")
