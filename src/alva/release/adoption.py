"""Imports retained secrets into their new stack, with their values.

`ImportExistingResources` imports only resources whose primary identifier the template can name. A secret's identifier
is its ARN, which ends in six random characters. So the engine looks up secrets by name and imports them with an IMPORT
change set, which can contain nothing else (no tags, no outputs). The stack's next update creates the rest.
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/import-resources-automatically.html
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from alva.aws import Aws, error_code, explained
from alva.errors import StackFailed
from alva.release.bootstrap_roles import bootstrap_roles_of

SECRET_TYPE = "AWS::SecretsManager::Secret"  # noqa: S105
KEEPING = ("Retain", "RetainExceptOnCreate")
READY_SECONDS = 300


def retained_secrets(template: Mapping[str, Any]) -> dict[str, str]:
    """Return logical id -> name of the secrets that the template retains and names."""
    return {
        logical_id: body["Properties"]["Name"]
        for logical_id, body in template.get("Resources", {}).items()
        if body["Type"] == SECRET_TYPE
        and body.get("DeletionPolicy") in KEEPING
        and isinstance(body.get("Properties", {}).get("Name"), str)
    }


def import_template(template: Mapping[str, Any], logical_ids: frozenset[str]) -> dict[str, Any]:
    """Return the template with these resources only: an import cannot create resources, or outputs of missing ones."""
    resources = {key: body for key, body in template["Resources"].items() if key in logical_ids}
    return {
        **{key: value for key, value in template.items() if key not in ("Outputs", "Rules")},
        "Resources": resources,
    }


def adopt(
    aws: Aws,
    name: str,
    template: Mapping[str, Any],
    line: Callable[[str], None],
    wait: Callable[[str], str],
) -> bool:
    """Import the existing secrets into the new stack `name`; False where there are none.

    `wait` waits for the operation on a stack (by its id) and returns the stack's status. Raises StackFailed.
    """
    existing = {
        logical_id: arn
        for logical_id, secret in retained_secrets(template).items()
        if (arn := _arn(aws, secret)) is not None
    }
    if not existing:
        return False
    line(f"importing {len(existing)} existing secrets")
    what = f"import secrets into stack {name}"
    cloudformation = aws.cloudformation
    roles = bootstrap_roles_of(aws)
    with explained(what):
        made = roles.deployer.cloudformation.create_change_set(
            StackName=name,
            ChangeSetName=f"alva-{uuid.uuid4().hex[:16]}",
            ChangeSetType="IMPORT",
            TemplateBody=json.dumps(import_template(template, frozenset(existing)), separators=(",", ":")),
            ResourcesToImport=[
                {"ResourceType": SECRET_TYPE, "LogicalResourceId": logical_id, "ResourceIdentifier": {"Id": arn}}
                for logical_id, arn in existing.items()
            ],
            **roles.handed,
        )

    def ready() -> tuple[str, str] | None:
        with explained(what):
            answer = cloudformation.describe_change_set(StackName=name, ChangeSetName=made["Id"])
        if answer["Status"] in ("CREATE_COMPLETE", "FAILED"):
            return answer["Status"], answer.get("StatusReason", "")
        return None

    status, reason = aws.poll.until(ready, timeout_seconds=READY_SECONDS, what=f"the change set of stack {name}")
    if status == "FAILED":
        raise StackFailed(f"cannot {what}", evidence=[reason])
    with explained(what):
        roles.deployer.cloudformation.execute_change_set(StackName=name, ChangeSetName=made["Id"])
    ended = wait(made["StackId"])
    if ended != "IMPORT_COMPLETE":
        raise StackFailed(f"cannot {what}", evidence=[f"the stack is {ended}"])
    return True


def _arn(aws: Aws, name: str) -> str | None:
    """Return the secret's ARN; None if it does not exist or is scheduled for deletion."""
    with explained(f"look for secret {name}"):
        try:
            found = aws.secretsmanager.describe_secret(SecretId=name)
        except Exception as error:
            if error_code(error) == "ResourceNotFoundException":
                return None
            raise
    return None if found.get("DeletedDate") else found["ARN"]
