"""Rotates the generated credential of database and cache, and restarts the tasks that use it.

The new value is created beside the current one (AWSPENDING). The stacks that contain the password get it by its version
id, because CloudFormation resolves a reference again only where the template changed. Then it becomes the current
version, its users restart, and the stacks get their templates back, so that the next release finds no change. Until its
restart, an old task keeps its open connections and cannot open new ones.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/dynamic-references-secretsmanager.html
"""

from __future__ import annotations

import json
import re
import secrets as randomness
import string
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from alva.aws import Aws, explained
from alva.errors import AlvaError, UsageError
from alva.release.manifest import Manifest, Secret
from alva.release.restart import restart
from alva.release.secret_audit import Entry, SecretAudit
from alva.release.stack_state import ObservedStack
from alva.release.stacks import Stacks

Line = Callable[[str], None]

ALPHABET = string.ascii_letters + string.digits
"""Characters that both engines and URLs accept unescaped; the template's GenerateSecretString uses the same."""

LENGTH = 40

_REFERENCE = re.compile(r":SecretString:password(?::[^}]*)?\}\}")


def pinned(template: Mapping[str, Any], version_id: str | None) -> dict[str, Any]:
    """Return the template with every reference to a secret's password pinned to that version, or (None) to the
    current one.
    """
    suffix = f":SecretString:password::{version_id}}}}}" if version_id else ":SecretString:password}}"
    loaded: dict[str, Any] = json.loads(_REFERENCE.sub(suffix, json.dumps(template)))
    return loaded


def rotate(aws: Aws, manifest: Manifest, secret: Secret, line: Line) -> tuple[str, ...]:
    """Rotate the secret's password; return the stacks that contain it. The caller holds the environment's lock.

    Raises UsageError for a secret that no template generates, StackFailed when an engine refused the value: the old
    value is still current, and a new rotation starts again.
    """
    if secret.kind != "generated":
        raise UsageError(
            f"cannot rotate {secret.name}: no template generates its value", next_step="./alva secrets set NAME"
        )
    stacks = Stacks(aws)
    holding = _stacks_that_hold_it(stacks, manifest)
    if not holding:
        raise AlvaError(f"cannot rotate {secret.name}: no deployed stack uses its password", next_step="./alva deploy")
    before, version = _make_pending(aws, secret)
    for stack in holding:
        line(f"set the new value in {stack.name}")
        stacks.apply(stack.name, pinned(stack.template, version), {}, stack.tags, line)
    with explained(f"make the new value of {secret.name} current"):
        aws.secretsmanager.update_secret_version_stage(
            SecretId=secret.name, VersionStage="AWSCURRENT", MoveToVersionId=version, RemoveFromVersionId=before
        )
    SecretAudit(aws, manifest).record(Entry.now(secret.name))
    restart(aws, manifest, [manifest.service(name) for name in secret.used_by], line)
    for stack in holding:
        stacks.apply(stack.name, pinned(stack.template, None), {}, stack.tags, line)
    return tuple(stack.name for stack in holding)


def _stacks_that_hold_it(stacks: Stacks, manifest: Manifest) -> list[ObservedStack]:
    observed = [stacks.observe(stack.name) for stack in manifest.stacks]
    return [stack for stack in observed if stack is not None and _REFERENCE.search(json.dumps(stack.template))]


def _make_pending(aws: Aws, secret: Secret) -> tuple[str, str]:
    """Create a new version; return the ids of the current and the new version."""
    with explained(f"create a new value of {secret.name}"):
        current = aws.secretsmanager.get_secret_value(SecretId=secret.name)
        value = json.loads(current["SecretString"])
        value["password"] = "".join(randomness.choice(ALPHABET) for _ in range(LENGTH))
        version = str(uuid.uuid4())
        aws.secretsmanager.put_secret_value(
            SecretId=secret.name,
            ClientRequestToken=version,
            SecretString=json.dumps(value),
            VersionStages=["AWSPENDING"],
        )
    return current["VersionId"], version
