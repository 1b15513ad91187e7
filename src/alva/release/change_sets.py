"""CloudFormation's change sets: what a stack would change, before anything of it does.

ImportExistingResources: a secret that outlived its stack comes back into it by its name (AWS: CreateChangeSet).
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alva.aws import Aws, explained
from alva.errors import AlvaError, StackFailed

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import ResourceChangeTypeDef

INLINE_TEMPLATE_BYTES = 51_200
"""CreateChangeSet takes larger templates from S3 only (CloudFormation quotas)."""

STAGING_BUCKET = "cdk-hnb659fds-assets-{account}-{region}"
"""The bucket that `cdk bootstrap` makes; templates that do not fit inline go there."""

READY_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class ChangeSet:
    """One change set, ready to be executed."""

    arn: str
    stack_id: str


@dataclass(frozen=True, kw_only=True)
class ResourceChange:
    """What a change set says about one resource."""

    logical_id: str
    type: str
    action: str
    """Add, Modify, Remove, Import or Dynamic, as AWS has it."""
    replacement: str = ""
    """True, False or Conditional; empty unless it is modified."""
    scope: tuple[str, ...] = ()
    """Properties, Tags, Metadata, DeletionPolicy, ..."""
    properties: tuple[str, ...] = ()
    """The properties that change, by name."""
    is_certain: bool = True
    """False where every reason is one that CloudFormation evaluates only while it updates."""

    @property
    def is_replaced(self) -> bool:
        """Whether the resource may come back as another one: what it held is then gone."""
        return self.action == "Modify" and self.replacement in ("True", "Conditional")

    def as_json(self) -> dict[str, object]:
        """The same as values."""
        return {
            "resource": self.logical_id,
            "type": self.type,
            "action": self.action,
            "replacement": self.replacement,
            "scope": list(self.scope),
            "properties": list(self.properties),
            "certain": self.is_certain,
        }


class ChangeSets:
    """Makes, reads and removes change sets, for one target."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def create(
        self,
        name: str,
        template: Mapping[str, Any],
        parameters: Mapping[str, str],
        tags: Mapping[str, str],
        *,
        previous: Mapping[str, str] | None,
    ) -> ChangeSet | None:
        """Make a change set of a stack with the parameters `previous`, or (None) of one that does not exist yet.

        None when CloudFormation finds nothing to change. Raises StackFailed when it refuses.
        """
        body = minified(template)
        source: dict[str, Any] = (
            {"TemplateBody": body}
            if len(body.encode()) <= INLINE_TEMPLATE_BYTES
            else {"TemplateURL": self._upload(name, body)}
        )
        cloudformation = self._aws.cloudformation
        what = f"plan the change of stack {name}"
        try:
            with explained(what):
                made = cloudformation.create_change_set(
                    StackName=name,
                    ChangeSetName=f"alva-{uuid.uuid4().hex[:16]}",
                    ChangeSetType="CREATE" if previous is None else "UPDATE",
                    Capabilities=["CAPABILITY_NAMED_IAM"],
                    ImportExistingResources=True,
                    Tags=[{"Key": key, "Value": value} for key, value in tags.items()],
                    Parameters=[
                        {"ParameterKey": key, "ParameterValue": parameters[key]}
                        if key in parameters
                        else {"ParameterKey": key, "UsePreviousValue": True}
                        for key in template.get("Parameters", {})
                        if key in parameters or key in (previous or {})
                    ],
                    **source,
                )
        except AlvaError as error:
            raise StackFailed(error.message, evidence=error.evidence) from error
        change_set = ChangeSet(arn=made["Id"], stack_id=made["StackId"])

        def ended() -> tuple[str, str] | None:
            with explained(what):
                answer = cloudformation.describe_change_set(StackName=name, ChangeSetName=change_set.arn)
            if answer["Status"] in ("CREATE_COMPLETE", "FAILED"):
                return answer["Status"], answer.get("StatusReason", "")
            return None

        status, reason = self._aws.poll.until(
            ended, timeout_seconds=READY_SECONDS, what=f"the change set of stack {name}"
        )
        if status == "CREATE_COMPLETE":
            return change_set
        self.delete(name, change_set)
        if "didn't contain changes" in reason or "No updates are to be performed" in reason:
            return None
        raise StackFailed(f"cannot {what}", evidence=[reason])

    def read(self, name: str, change_set: ChangeSet) -> list[ResourceChange]:
        """What it would change, all pages of it."""
        found: list[ResourceChange] = []
        token: dict[str, Any] = {}
        while True:
            with explained(f"read the change set of stack {name}"):
                answer = self._aws.cloudformation.describe_change_set(
                    StackName=name, ChangeSetName=change_set.arn, **token
                )
            found += [_resource(c["ResourceChange"]) for c in answer.get("Changes", []) if "ResourceChange" in c]
            if not answer.get("NextToken"):
                return found
            token = {"NextToken": answer["NextToken"]}

    def delete(self, name: str, change_set: ChangeSet) -> None:
        """Remove it: nothing of it stays."""
        with explained(f"remove the change set of stack {name}"):
            self._aws.cloudformation.delete_change_set(StackName=name, ChangeSetName=change_set.arn)

    def _upload(self, name: str, body: str) -> str:
        bucket = STAGING_BUCKET.format(account=self._aws.account_id(), region=self._aws.target.region)
        key = f"alva/{hashlib.sha256(body.encode()).hexdigest()}.json"
        with explained(f"put the template of stack {name} into s3://{bucket} (made by `cdk bootstrap`)"):
            self._aws.s3.put_object(Bucket=bucket, Key=key, Body=body.encode())
        return f"{self._aws.s3.meta.endpoint_url}/{bucket}/{key}"


def minified(template: Mapping[str, Any]) -> str:
    """The template as it is sent."""
    return json.dumps(template, separators=(",", ":"), ensure_ascii=False)


def _resource(change: ResourceChangeTypeDef) -> ResourceChange:
    details = change.get("Details", [])
    names = (d.get("Target", {}).get("Name") or d.get("Target", {}).get("Attribute", "") for d in details)
    return ResourceChange(
        logical_id=change.get("LogicalResourceId", ""),
        type=change.get("ResourceType", ""),
        action=change.get("Action", ""),
        replacement=change.get("Replacement", ""),
        scope=tuple(change.get("Scope", [])),
        properties=tuple(dict.fromkeys(name for name in names if name)),
        is_certain=not details or any(d.get("Evaluation") == "Static" for d in details),
    )
