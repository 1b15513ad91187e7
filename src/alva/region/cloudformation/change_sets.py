"""Creates, describes, executes and deletes change sets."""

from __future__ import annotations

import re
import uuid
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any

from alva.region.cloudformation import differences, importing, submissions
from alva.region.cloudformation.context import Context, OperationContext, scope_of
from alva.region.cloudformation.differences import Side
from alva.region.cloudformation.drift import Drifted
from alva.region.cloudformation.errors import Refused, no_such_stack
from alva.region.cloudformation.intrinsics import Json, TemplateError
from alva.region.cloudformation.operations import (
    UPDATABLE,
    Operations,
    cannot_be_updated,
    check_name,
    new_stack,
    tags_differ,
)
from alva.region.cloudformation.read import page, parameters, seconds
from alva.region.cloudformation.store import ChangeSet, Stack, now
from alva.region.cloudformation.submissions import Submission

NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."
# Members of the request that the execution of a change set needs.
_KEPT = ("Capabilities", "NotificationARNs", "RollbackConfiguration", "RoleARN", "DisableValidation")
# Members of the request that DescribeChangeSet returns unchanged.
_COPIED = ("Description", "OnStackFailure", "ImportExistingResources", "DeploymentMode")
_MISSING_STACK_NAME = "StackName must be specified if ChangeSetName is not specified as an ARN."


class ChangeSets:
    """CreateChangeSet and the other calls about change sets."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._records = operations.records
        self._provisioner = operations.provisioner

    async def create(self, request: Json) -> Json:
        """CreateChangeSet."""
        drifted = await self._drifted(self._records.find_existing(request["StackName"]), request)
        kind, name = request.get("ChangeSetType", "UPDATE"), request["ChangeSetName"]
        if not re.fullmatch(r"[a-zA-Z][-a-zA-Z0-9]*", name):
            raise Refused(
                f"1 validation error detected: Value '{name}' at 'changeSetName' failed to satisfy constraint: Member "
                "must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"
            )
        if request.get("OnStackFailure") == "DELETE" and kind != "CREATE":
            raise Refused("OnStackFailure DELETE is only valid when ChangeSetType is CREATE.")
        stack = self._stack_for(request, kind)
        is_new = not stack["_template"] and stack["StackId"] not in self._records.events
        former = self._records.find_change_set(name, stack)
        if former is not None and not former["ExecutionStatus"].startswith("EXECUTE_"):
            raise Refused(f"ChangeSet [{name}] already exists", "AlreadyExistsException")
        known_types = self._provisioner.known_types
        submission = submissions.read(self._records, request, stack, known_types, stack["_template"] or None)
        change_set = await self._new_change_set(request, stack, submission, kind, drifted)
        if is_new:
            self._records.add(stack)
            OperationContext(self._records, self._provisioner, stack, {}, {}).stack_event(
                "REVIEW_IN_PROGRESS", "User Initiated"
            )
        self._records.change_sets[change_set["ChangeSetId"]] = change_set
        return {"Id": change_set["ChangeSetId"], "StackId": stack["StackId"]}

    async def execute(self, request: Json) -> Json:
        """ExecuteChangeSet. The stack's other change sets are deleted."""
        change_set, identifier = self._find(request), request["ChangeSetName"]
        stack = self._records.find_existing(change_set["StackId"])
        drifted = await self._drifted(stack, change_set)
        if change_set["ExecutionStatus"] != "AVAILABLE":
            what, state = (
                ("status", change_set["Status"])
                if change_set["Status"] == "FAILED"
                else ("execution status", change_set["ExecutionStatus"])
            )
            raise Refused(
                f"ChangeSet [{change_set['ChangeSetId']}] cannot be executed in its current {what} of [{state}]",
                "InvalidChangeSetStatus",
            )
        if stack is None or stack["StackStatus"] not in (*UPDATABLE, "REVIEW_IN_PROGRESS"):
            raise Refused(
                f"ChangeSet [{identifier}] cannot be executed: stack {change_set['StackName']} is in "
                f"{stack['StackStatus'] if stack else 'DELETE_COMPLETE'} state",
                "InvalidChangeSetStatus",
            )
        on_failure = change_set.get("OnStackFailure")
        if on_failure and "DisableRollback" in request:
            raise Refused("You can't specify DisableRollback when the change set was created with OnStackFailure.")
        for other in self._records.change_sets_of(stack):
            if other is not change_set:
                del self._records.change_sets[other["ChangeSetId"]]
        change_set["ExecutionStatus"] = "EXECUTE_IN_PROGRESS"
        stack["ChangeSetId"] = change_set["ChangeSetId"]
        submission = self._submission_of(change_set, stack)
        if change_set["ChangeSetType"] == "IMPORT":
            work = importing.import_resources(self._records, self._provisioner, stack, submission, change_set)
            self._operations.run(stack, _recorded(work, stack, change_set))
            return {}
        disable_rollback = on_failure == "DO_NOTHING" or bool(request.get("DisableRollback"))
        is_update = change_set["ChangeSetType"] == "UPDATE"
        if not is_update:
            stack["DisableRollback"] = disable_rollback
        self._operations.start(
            stack,
            submission,
            {**change_set["_request"], **request},
            disable_rollback=disable_rollback,
            is_update=is_update,
            deletes_on_failure=on_failure == "DELETE",
            imports=change_set["_imports"],
            drifted=drifted,
            around=lambda work: _recorded(work, stack, change_set),
        )
        return {}

    def describe(self, request: Json) -> Json:
        """DescribeChangeSet."""
        change_set = self._find(request)
        stack = self._records.find(change_set["StackId"])
        if change_set["ExecutionStatus"] == "EXECUTE_IN_PROGRESS" and not _is_busy(stack):
            change_set["ExecutionStatus"] = execution_status(stack) if stack else "EXECUTE_FAILED"
        changes = change_set["_valued" if request.get("IncludePropertyValues") else "Changes"]
        shown, token = page(changes, request, "DescribeChangeSet")
        kept = change_set["_request"]
        return {
            **{key: each for key, each in _summary(change_set).items() if key != "RootChangeSetId"},
            "Capabilities": kept.get("Capabilities") or [],
            "NotificationARNs": kept.get("NotificationARNs") or [],
            "RollbackConfiguration": kept.get("RollbackConfiguration") or {},
            "OnStackFailure": change_set.get("OnStackFailure"),
            "DeploymentMode": change_set.get("DeploymentMode"),
            "StackDriftStatus": change_set.get("StackDriftStatus"),
            "ImportExistingResources": change_set.get("ImportExistingResources") or None,
            "Parameters": parameters(change_set["_resolved_params"]) or None,
            "Tags": change_set["Tags"] or None,
            "Changes": [{"Type": "Resource", "ResourceChange": each} for each in shown],
            "NextToken": token,
        }

    def list_change_sets(self, request: Json) -> Json:
        """ListChangeSets."""
        stack = self._records.existing(request["StackName"])
        found = self._records.change_sets_of(stack)
        shown, token = page(found, request, "ListChangeSets")
        return {"Summaries": [_summary(each) for each in shown], "NextToken": token}

    def delete(self, request: Json) -> Json:
        """DeleteChangeSet. It succeeds for a change set that does not exist if its stack exists."""
        name, stack_name = request["ChangeSetName"], request.get("StackName")
        if not stack_name and not name.startswith("arn:"):
            raise Refused(_MISSING_STACK_NAME)
        stack = self._records.existing(stack_name) if stack_name else None
        found = self._records.find_change_set(name, stack)
        if found is not None:
            self._records.change_sets.pop(found["ChangeSetId"])
        return {}

    async def _drifted(self, stack: Stack | None, request: Json) -> dict[str, Drifted]:
        """The drifted resources, if the request or change set is drift-aware."""
        if stack is None or request.get("DeploymentMode") != "REVERT_DRIFT":
            return {}
        return await self._provisioner.drift.drifted_resources(stack)

    async def _new_change_set(
        self, request: Json, stack: Stack, submission: Submission, kind: str, drifted: dict[str, Drifted]
    ) -> ChangeSet:
        _, _, _, region, account_id, _ = stack["StackId"].split(":", 5)
        name = request["ChangeSetName"]
        before = Side(stack["_template"], scope_of(self._records, stack, stack["_template"], stack["_resolved_params"]))
        records: Json = stack["_resources"]
        retagged = list(records) if kind == "UPDATE" and tags_differ(stack, request) else []
        after = Side(submission.template, replace(submission.scope, stack_id=stack["StackId"]))
        plain, valued = differences.changes(before, after, records, retagged)
        reverts_drift = request.get("DeploymentMode") == "REVERT_DRIFT"
        if reverts_drift:
            is_detected = self._provisioner.drift.is_detected
            plain, valued = (
                differences.with_drift(each, after, records, drifted, is_detected) for each in (plain, valued)
            )
        change_set: ChangeSet = {
            "ChangeSetId": f"arn:aws:cloudformation:{region}:{account_id}:changeSet/{name}/{uuid.uuid4()}",
            "ChangeSetName": name,
            "StackId": stack["StackId"],
            "StackName": stack["StackName"],
            "CreationTime": now(),
            "ChangeSetType": kind,
            "Status": "CREATE_COMPLETE",
            "ExecutionStatus": "AVAILABLE",
            **{key: request[key] for key in _COPIED if key in request},
            **({"StackDriftStatus": "DRIFTED" if drifted else "IN_SYNC"} if reverts_drift else {}),
            "Tags": request.get("Tags") or [],
            "Changes": plain,
            "_valued": valued,
            "_imports": {},
            "_template": submission.template,
            "_template_body": submission.body,
            "_resolved_params": submission.parameters,
            "_request": {key: request[key] for key in (*_KEPT, "Tags") if key in request},
        }
        if kind == "IMPORT":
            importing.check_frozen(stack, submission, request)
            change_set.update(await importing.of_request(self._records, submission, request, plain))
        elif request.get("ImportExistingResources"):
            change_set.update(await importing.of_existing(self._records, submission, plain))
        elif not plain and not self._outputs_differ(stack, submission):
            change_set.update(Status="FAILED", ExecutionStatus="UNAVAILABLE", StatusReason=NO_CHANGES)
        return change_set

    def _stack_for(self, request: Json, kind: str) -> Stack:
        """The stack of a change set, or the record of a new one. Raises Refused where the request fits neither."""
        name = request["StackName"]
        stack = self._records.find(name)
        exists = stack is not None and stack["StackStatus"] != "DELETE_COMPLETE"
        if stack is not None and kind == "CREATE" and (name.startswith("arn:") or stack["StackStatus"] in UPDATABLE):
            raise Refused(
                f"Stack [{name}] already exists and cannot be created again with the changeSet "
                f"[{request['ChangeSetName']}]."
            )
        allowed = UPDATABLE if kind == "UPDATE" else (*UPDATABLE, "REVIEW_IN_PROGRESS")
        if stack is not None and exists:
            if stack["StackStatus"] not in allowed:
                raise cannot_be_updated(stack)
            return stack
        if kind == "UPDATE":
            raise no_such_stack(name)
        check_name(name)
        return new_stack(name, "REVIEW_IN_PROGRESS", request)

    def _outputs_differ(self, stack: Stack, submission: Submission) -> bool:
        """Whether the outputs would have other values, names or exports once the change set is executed."""
        context = Context(self._records, stack, submission.template, submission.parameters)
        try:
            new, _ = context.outputs(stack["_resources"])
        except TemplateError:
            # An output that does not resolve against the existing resources differs from the stack's.
            return True
        return new != (stack.get("Outputs") or [])

    def _submission_of(self, change_set: ChangeSet, stack: Stack) -> Submission:
        source, resolved = change_set["_template"], change_set["_resolved_params"]
        scope = scope_of(self._records, stack, source, resolved)
        return Submission(source, change_set["_template_body"], resolved, scope)

    def _find(self, request: Json) -> ChangeSet:
        """The change set that a request names. Raises Refused."""
        name, stack_name = request["ChangeSetName"], request.get("StackName")
        if not stack_name and not name.startswith("arn:"):
            raise Refused(_MISSING_STACK_NAME)
        stack = self._records.find(stack_name) if stack_name else None
        if stack_name and stack is None:
            raise no_such_stack(stack_name)
        found = self._records.find_change_set(name, stack)
        if found is None:
            raise Refused(f"ChangeSet [{name}] does not exist", "ChangeSetNotFound", 404)
        return found


async def _recorded(work: Coroutine[Any, Any, None], stack: Stack, change_set: ChangeSet) -> None:
    """Execute a change set, and record the result."""
    try:
        await work
    finally:
        change_set["ExecutionStatus"] = execution_status(stack)


def execution_status(stack: Stack) -> str:
    """The ExecutionStatus that follows from the stack's status."""
    status = stack["StackStatus"]
    is_done = status.endswith("_COMPLETE") and "ROLLBACK" not in status and not status.startswith("DELETE")
    return "EXECUTE_COMPLETE" if is_done else "EXECUTE_FAILED"


def _is_busy(stack: Stack | None) -> bool:
    return stack is not None and (stack["StackStatus"].endswith("_IN_PROGRESS") or "_operation" in stack)


def _summary(change_set: ChangeSet) -> Json:
    return {
        **{
            key: change_set[key]
            for key in ("ChangeSetId", "ChangeSetName", "StackId", "StackName", "Status", "ExecutionStatus")
        },
        "StatusReason": change_set.get("StatusReason"),
        "Description": change_set.get("Description"),
        "CreationTime": seconds(change_set["CreationTime"]),
        "IncludeNestedStacks": False,
    }
