"""CloudFormation's change sets: preview a stack's change, then execute it.

ImportExistingResources imports a retained resource into its new stack by its name (AWS: CreateChangeSet).
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alva.aws import Aws, explained, pages
from alva.errors import AlvaError, PreflightRefused, StackFailed
from alva.release.bootstrap_roles import bootstrap_roles_of

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import ResourceChangeTypeDef

INLINE_TEMPLATE_BYTES = 51_200
"""CreateChangeSet reads larger templates from S3 only (CloudFormation quotas)."""

READY_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class ChangeSet:
    """One change set that can be executed."""

    arn: str
    stack_id: str


@dataclass(frozen=True, kw_only=True)
class ResourceChange:
    """The change of one resource."""

    logical_id: str
    type: str
    action: str
    """AWS's value: Add, Modify, Remove, Import or Dynamic."""
    replacement: str = ""
    """True, False or Conditional; empty if the resource is not modified."""
    scope: tuple[str, ...] = ()
    """Properties, Tags, Metadata, DeletionPolicy, ..."""
    properties: tuple[str, ...] = ()
    """The names of the changed properties."""
    is_certain: bool = True
    """False if CloudFormation evaluates every reason only during the update."""

    @property
    def is_replaced(self) -> bool:
        """Whether the change can replace the resource, which loses its content."""
        return self.action == "Modify" and self.replacement in ("True", "Conditional")

    def as_json(self) -> dict[str, object]:
        """Return the fields as a dictionary."""
        return {
            "resource": self.logical_id,
            "type": self.type,
            "action": self.action,
            "replacement": self.replacement,
            "scope": list(self.scope),
            "properties": list(self.properties),
            "certain": self.is_certain,
        }


@dataclass(frozen=True, kw_only=True)
class ValidationFinding:
    """One finding of CloudFormation's validation of a change set."""

    text: str
    fails: bool
    """Whether the deployment would fail; False for a warning."""


class ChangeSets:
    """Creates, reads and deletes change sets of one target."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._roles = bootstrap_roles_of(aws)

    def create(
        self,
        name: str,
        template: Mapping[str, Any],
        parameters: Mapping[str, str],
        tags: Mapping[str, str],
        *,
        previous: Mapping[str, str] | None,
    ) -> ChangeSet | None:
        """Create a change set of a stack with the parameters `previous`, or (None) of a new stack.

        Returns None when nothing changes. Raises StackFailed when CloudFormation refuses it.
        """
        body = minified(template)
        source: dict[str, Any] = (
            {"TemplateBody": body}
            if len(body.encode()) <= INLINE_TEMPLATE_BYTES
            else {"TemplateURL": self._upload(name, body)}
        )
        return self._make(
            name,
            ChangeSetType="CREATE" if previous is None else "UPDATE",
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

    def create_as_written(self, name: str, body: str, parameters: Mapping[str, str]) -> ChangeSet | None:
        """Create a change set of a new stack from a template's text; otherwise like `create`."""
        return self._make(
            name,
            ChangeSetType="CREATE",
            TemplateBody=body,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
        )

    def _make(self, name: str, **arguments: Any) -> ChangeSet | None:
        cloudformation = self._aws.cloudformation
        what = f"plan the change of stack {name}"
        try:
            with explained(what):
                made = self._roles.deployer.cloudformation.create_change_set(
                    StackName=name,
                    ChangeSetName=f"alva-{uuid.uuid4().hex[:16]}",
                    Capabilities=["CAPABILITY_NAMED_IAM"],
                    ImportExistingResources=True,
                    **self._roles.handed,
                    **arguments,
                )
        except PreflightRefused:
            raise
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
        if "didn't contain changes" in reason or "No updates are to be performed" in reason:
            self.delete(name, change_set)
            return None
        try:
            findings = [each.text for each in self.validation_findings(change_set)]
        finally:
            self.delete(name, change_set)
        raise StackFailed(f"cannot {what}", evidence=[*findings, reason])

    def validation_findings(self, change_set: ChangeSet) -> list[ValidationFinding]:
        """Return the findings of CloudFormation's validation of the change set.

        https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/validate-stack-deployments.html
        """
        with explained("read the findings of CloudFormation's validation"):
            events = list(
                pages(self._aws.cloudformation, "describe_events", "OperationEvents", ChangeSetName=change_set.arn)
            )
        return [
            ValidationFinding(
                text=f"{event.get('LogicalResourceId', '')} {event.get('ValidationPath', '')}: "
                f"{event.get('ValidationStatusReason', '')} ({event.get('ValidationName', '')})",
                fails=event.get("ValidationFailureMode") != "WARN",
            )
            for event in events
            if event.get("EventType") == "VALIDATION_ERROR" and event.get("ValidationStatus") == "FAILED"
        ]

    def read(self, name: str, change_set: ChangeSet) -> list[ResourceChange]:
        """Return all its changes."""
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

    def execute(self, name: str, change_set: ChangeSet) -> None:
        """Start the change; the stack's status shows its progress."""
        with explained(f"change stack {name}"):
            self._roles.deployer.cloudformation.execute_change_set(StackName=name, ChangeSetName=change_set.arn)

    def delete(self, name: str, change_set: ChangeSet) -> None:
        """Delete the change set."""
        with explained(f"delete the change set of stack {name}"):
            self._roles.deployer.cloudformation.delete_change_set(StackName=name, ChangeSetName=change_set.arn)

    def _upload(self, name: str, body: str) -> str:
        bucket, publisher = self._roles.bucket, self._roles.publisher
        key = f"alva/{hashlib.sha256(body.encode()).hexdigest()}.json"
        with explained(f"put the template of stack {name} into s3://{bucket} (created by `cdk bootstrap`)"):
            publisher.s3.put_object(Bucket=bucket, Key=key, Body=body.encode())
        return f"{publisher.s3.meta.endpoint_url}/{bucket}/{key}"


def minified(template: Mapping[str, Any]) -> str:
    """Return the template as compact JSON."""
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
