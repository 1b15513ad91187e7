"""Brings one CloudFormation stack to its template, and reports why it failed.

`observe` reads, `apply` changes; `stack_state.py` decides what to do. All changes use change sets (`change_sets.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from alva.aws import Aws, error_code, explained, pages
from alva.errors import RollbackFailed, StackFailed, TimedOut
from alva.release.adoption import adopt
from alva.release.bootstrap_roles import bootstrap_roles_of
from alva.release.change_sets import (
    INLINE_TEMPLATE_BYTES,
    ChangeSet,
    ChangeSets,
    ResourceChange,
    ValidationFinding,
    minified,
)
from alva.release.stack_state import Action, ObservedStack, compare

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackEventTypeDef

CANCELLED_REASONS = ("Resource creation cancelled", "Resource update cancelled", "Resource creation Cancelled")
"""Reasons of resources that failed only because another resource failed."""

Line = Callable[[str], None]


def _previous(observed: ObservedStack | None, action: Action) -> Mapping[str, str] | None:
    return observed.parameters if observed is not None and action is Action.UPDATE else None


def first_failure(events: list[StackEventTypeDef]) -> list[str]:
    """Return the reasons of the resources that failed first; `events` are in chronological order."""
    failures = [
        event
        for event in events
        if event.get("ResourceStatus", "").endswith("_FAILED")
        and not event.get("ResourceStatusReason", "").startswith(CANCELLED_REASONS)
    ]
    of_resources = [event for event in failures if event.get("PhysicalResourceId") != event.get("StackId")]
    return [
        f"{event.get('LogicalResourceId')} ({event.get('ResourceType')}): "
        f"{event.get('ResourceStatusReason') or event.get('ResourceStatus')}"
        for event in (of_resources or failures)[:3]
    ]


class Stacks:
    """The stacks of one target."""

    def __init__(self, aws: Aws, *, timeout_seconds: float = 1800, cancel_timeout_seconds: float = 900) -> None:
        self._aws = aws
        self._timeout_seconds = timeout_seconds
        self._cancel_timeout_seconds = cancel_timeout_seconds

    def observe(self, name: str, *, with_template: bool = True) -> ObservedStack | None:
        """Return the stack, or None if it does not exist."""
        cloudformation = self._aws.cloudformation
        with explained(f"read stack {name}"):
            try:
                stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
            except Exception as error:
                if error_code(error) == "ValidationError":
                    return None
                raise
            template: Mapping[str, Any] = {}
            if with_template and stack["StackStatus"] != "REVIEW_IN_PROGRESS":
                body = cloudformation.get_template(StackName=name, TemplateStage="Original")["TemplateBody"]
                template = json.loads(body) if isinstance(body, str) else json.loads(json.dumps(body))
        return ObservedStack(
            name=name,
            status=stack["StackStatus"],
            stack_id=stack["StackId"],
            template=template,
            parameters={p["ParameterKey"]: p.get("ParameterValue", "") for p in stack.get("Parameters", [])},
            outputs={o["OutputKey"]: o.get("OutputValue", "") for o in stack.get("Outputs", [])},
            tags={t["Key"]: t["Value"] for t in stack.get("Tags", [])},
        )

    def wait_until_ready(self, name: str, line: Line) -> ObservedStack | None:
        """Wait for an operation in progress, and continue a stuck rollback.

        Raises TimedOut when the operation does not end (it is cancelled then), RollbackFailed when the rollback cannot
        continue: a person must choose the resources to skip.
        """
        observed = self.observe(name, with_template=False)
        if observed is not None and observed.is_busy:
            line(f"found {observed.status}: waiting for it to end")
            try:
                self._wait(observed.stack_id, line, since=None)
            except TimedOut as error:
                raise self._cancel_update(observed.stack_id, None, line, error) from error
            observed = self.observe(name, with_template=False)
        if observed is not None and observed.status == "UPDATE_ROLLBACK_FAILED":
            line("found UPDATE_ROLLBACK_FAILED: continuing the rollback")
            since = self._last_event(observed.stack_id)
            with explained(f"continue the rollback of stack {name}"):
                roles = bootstrap_roles_of(self._aws)
                roles.deployer.cloudformation.continue_update_rollback(StackName=name, **roles.handed)
            status, events = self._wait(observed.stack_id, line, since=since)
            if status == "UPDATE_ROLLBACK_FAILED":
                raise RollbackFailed(
                    f"cannot continue the rollback of stack {name}",
                    evidence=[*first_failure(events), f"the stack is {status}"],
                    next_step="fix the cause and release again, or skip resources: aws cloudformation "
                    f"continue-update-rollback --stack-name {name} --resources-to-skip ...",
                )
        return self.observe(name)

    def apply(
        self,
        name: str,
        template: Mapping[str, Any],
        parameters: Mapping[str, str],
        tags: Mapping[str, str],
        line: Line,
        *,
        while_waiting: Callable[[], None] | None = None,
    ) -> bool:
        """Bring the stack to `template`; True if anything changed. `while_waiting` is called after each poll.

        Raises StackFailed with the first failed resource's reason when CloudFormation rolled back (or deleted a new
        stack's resources), RollbackFailed when that failed too, TimedOut at the deadline.
        """
        observed = self.wait_until_ready(name, line)
        change = compare(name, template, parameters, tags, observed)
        if change.action is Action.NONE:
            return False
        if change.action is Action.RECREATE:
            line(f"{change.reasons[0]}: deleting it first")
            self.delete(name, line)
            observed = None
        action, adopted = change.action, False
        if action is not Action.UPDATE and adopt(
            self._aws, name, template, line, lambda stack_id: self._wait(stack_id, line, since=None)[0]
        ):
            action, adopted, observed = Action.UPDATE, True, self.observe(name)
        change_set = ChangeSets(self._aws).create(
            name, template, parameters, tags, previous=_previous(observed, action)
        )
        if change_set is None:
            return adopted
        self._execute(name, change_set, line, "update" if action is Action.UPDATE else "create", while_waiting)
        return True

    def create_as_written(self, name: str, body: str, parameters: Mapping[str, str], line: Line) -> None:
        """Create a stack from a template's text, such as YAML; raises as `apply`."""
        change_set = ChangeSets(self._aws).create_as_written(name, body, parameters)
        if change_set is not None:
            self._execute(name, change_set, line, "create", None)

    def _execute(
        self, name: str, change_set: ChangeSet, line: Line, verb: str, while_waiting: Callable[[], None] | None
    ) -> None:
        """Execute the change set, and return when it is done; raises as `apply`."""
        since = self._last_event(change_set.stack_id)
        ChangeSets(self._aws).execute(name, change_set)
        try:
            status, events = self._wait(change_set.stack_id, line, since=since, while_waiting=while_waiting)
        except TimedOut as error:
            raise self._cancel_update(change_set.stack_id, since, line, error) from error
        if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
            return
        evidence = [*first_failure(events), f"the stack is {status}"]
        if status in ("UPDATE_ROLLBACK_FAILED", "ROLLBACK_FAILED"):
            raise RollbackFailed(f"cannot roll back stack {name}", evidence=evidence, next_step="./alva why")
        raise StackFailed(f"cannot {verb} stack {name}", evidence=evidence, next_step="./alva why")

    def preview(
        self,
        name: str,
        template: Mapping[str, Any],
        parameters: Mapping[str, str],
        tags: Mapping[str, str],
        observed: ObservedStack,
    ) -> list[ResourceChange]:
        """Return what an update of the existing stack would change, from a change set that is deleted again.

        Raises StackFailed when CloudFormation cannot create the change set, for example if another stack has not
        exported a value yet.
        """
        change_sets = ChangeSets(self._aws)
        change_set = change_sets.create(name, template, parameters, tags, previous=observed.parameters)
        if change_set is None:
            return []
        try:
            return change_sets.read(name, change_set)
        finally:
            change_sets.delete(name, change_set)

    def validate_changes(
        self, name: str, template: Mapping[str, Any], parameters: Mapping[str, str], tags: Mapping[str, str]
    ) -> list[ValidationFinding]:
        """Return the findings of CloudFormation's validation, from a change set that is deleted again.

        Nothing for a stack without changes, with an operation in progress, or with an import that another stack does
        not export yet: CloudFormation creates no change set for those.
        """
        observed = self.observe(name)
        change = compare(name, template, parameters, tags, observed)
        if change.action not in (Action.CREATE, Action.UPDATE) or (
            observed is not None and not observed.can_be_updated
        ):
            return []
        change_sets = ChangeSets(self._aws)
        try:
            change_set = change_sets.create(
                name, template, parameters, tags, previous=_previous(observed, change.action)
            )
            if change_set is None:
                return []
            try:
                return change_sets.validation_findings(change_set)
            finally:
                change_sets.delete(name, change_set)
        except StackFailed as error:
            reason = "; ".join(error.evidence)
            return [] if "No export named" in reason else [ValidationFinding(text=reason, fails=True)]
        finally:
            # The change set of a new stack creates an empty stack.
            if observed is None:
                self.delete(name, lambda _line: None)

    def validate(self, name: str, template: Mapping[str, Any]) -> str | None:
        """Validate the template with CloudFormation; return the error, or None. Creates nothing.

        Only templates that fit inline are validated: ValidateTemplate needs larger ones in S3.
        """
        body = minified(template)
        if len(body.encode()) > INLINE_TEMPLATE_BYTES:
            return None
        try:
            self._aws.cloudformation.validate_template(TemplateBody=body)
        except Exception as error:
            if error_code(error) == "ValidationError":
                return str(error).partition("operation: ")[2] or str(error)
            with explained(f"validate the template of stack {name}"):
                raise
        return None

    def delete(self, name: str, line: Line) -> None:
        """Delete the stack and wait until it is deleted; raises StackFailed when a resource remains."""
        stack = self.observe(name, with_template=False)
        if stack is None:
            return
        since = self._last_event(stack.stack_id)
        with explained(f"delete stack {name}"):
            roles = bootstrap_roles_of(self._aws)
            roles.deployer.cloudformation.delete_stack(StackName=name, **roles.handed)
        status, events = self._wait(stack.stack_id, line, since=since)
        if status != "DELETE_COMPLETE":
            raise StackFailed(
                f"cannot delete stack {name}",
                evidence=[*first_failure(events), f"the stack is {status}"],
                next_step="./alva why",
            )

    def _cancel_update(self, stack_id: str, since: str | None, line: Line, deadline: TimedOut) -> TimedOut:
        """Cancel an update at the deadline, rather than wait for hours; return the error to raise."""
        unfinished = {
            event["LogicalResourceId"]: event["ResourceStatus"]
            for event in self._events_since(stack_id, since)
            if event.get("PhysicalResourceId") != stack_id
        }
        evidence = [f"{name} is {status}" for name, status in unfinished.items() if status.endswith("_IN_PROGRESS")]
        with explained(f"cancel the update of {_name(stack_id)}"):
            try:
                self._aws.cloudformation.cancel_update_stack(StackName=stack_id)
            except Exception as error:
                # A creation or a rollback cannot be cancelled.
                if error_code(error) != "ValidationError":
                    raise
                evidence.append(str(error))
            else:
                # A cancellation needs its own time, even after the release's limit.
                status, _ = self._wait(
                    stack_id, line, since=since, timeout_seconds=self._cancel_timeout_seconds, is_limited=False
                )
                evidence.append(f"the update was cancelled: the stack is {status}")
        return TimedOut(deadline.message, evidence=evidence, next_step="./alva status, then release again")

    def _last_event(self, stack_id: str) -> str | None:
        with explained(f"read the events of {_name(stack_id)}"):
            try:
                events = self._aws.cloudformation.describe_stack_events(StackName=stack_id)["StackEvents"]
            except Exception as error:
                if error_code(error) == "ValidationError":
                    return None
                raise
        return events[0]["EventId"] if events else None

    def _events_since(self, stack: str, since: str | None) -> list[StackEventTypeDef]:
        new: list[StackEventTypeDef] = []
        for event in pages(self._aws.cloudformation, "describe_stack_events", "StackEvents", StackName=stack):
            if event["EventId"] == since:
                break
            new.append(event)
        return new[::-1]

    def _wait(
        self,
        stack_id: str,
        line: Line,
        *,
        since: str | None,
        while_waiting: Callable[[], None] | None = None,
        timeout_seconds: float | None = None,
        is_limited: bool = True,
    ) -> tuple[str, list[StackEventTypeDef]]:
        """Wait for the operation and report its events; return the stack's last status and all events since then."""
        shown: set[str] = set()
        events: list[StackEventTypeDef] = []
        started = time.monotonic()

        def ended() -> str | None:
            nonlocal events
            with explained(f"follow {_name(stack_id)}"):
                # Read the status first: then the events are complete when the operation has ended.
                status = self._aws.cloudformation.describe_stacks(StackName=stack_id)["Stacks"][0]["StackStatus"]
                events = self._events_since(stack_id, since)
            for event in events:
                if event["EventId"] not in shown:
                    shown.add(event["EventId"])
                    # Without a starting point, earlier events are not reported.
                    if since is not None or time.monotonic() - started > 1:
                        line(_describe(event))
            if not status.endswith("_IN_PROGRESS"):
                return status
            if while_waiting is not None:
                while_waiting()
            return None

        status = self._aws.poll.until(
            ended,
            timeout_seconds=timeout_seconds or self._timeout_seconds,
            what=_name(stack_id),
            is_limited=is_limited,
        )
        return status, events


def _describe(event: StackEventTypeDef) -> str:
    reason = event.get("ResourceStatusReason")
    return f"{event.get('ResourceStatus')} {event.get('LogicalResourceId')}" + (f": {reason}" if reason else "")


def _name(stack_id: str) -> str:
    """Return "stack NAME" from arn:aws:cloudformation:REGION:ACCOUNT:stack/NAME/ID."""
    return f"stack {stack_id.split('/')[1] if '/' in stack_id else stack_id}"
