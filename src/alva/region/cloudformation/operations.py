"""The calls that start, cancel or roll back an operation on a stack."""

from __future__ import annotations

import contextvars
import json
import re
import uuid
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any

from ministack.core.responses import get_account_id, get_region
from ministack.services.cloudformation import wait_conditions

from alva.region.background import Background
from alva.region.cloudformation import deletion, deployment, drift, events, rollback, submissions
from alva.region.cloudformation.context import OperationContext, importing_stacks
from alva.region.cloudformation.errors import Refused, no_such_stack
from alva.region.cloudformation.intrinsics import Json
from alva.region.cloudformation.provisioning import Provisioner
from alva.region.cloudformation.store import Stack, StackRecords, description_of, now
from alva.region.cloudformation.submissions import Submission
from alva.region.cloudformation.types import wait_condition

Work = Coroutine[Any, Any, None]

UPDATABLE = (
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
)
_NAME = r"[a-zA-Z][-a-zA-Z0-9]*"
_STATUSES_OF_FAILED_CREATIONS = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED")


class Operations:
    """The calls that change stacks, and those for a running or failed operation."""

    def __init__(
        self, background: Background, records: StackRecords, provisioner: Provisioner, ended: Callable[[], None]
    ) -> None:
        """`ended` is called at the end of every operation."""
        self._background = background
        self.records = records
        self.provisioner = provisioner
        self._ended = ended

    def run(self, stack: Stack, work: Work) -> None:
        """Run an operation in the background, with the account, region and token of the request."""

        async def run() -> None:
            try:
                await work
            finally:
                self._ended()

        self._background.spawn(
            f"end the operation on stack {stack['StackName']}", run(), context=contextvars.copy_context()
        )

    def create_stack(self, request: Json) -> Json:
        """CreateStack."""
        name = request["StackName"]
        check_name(name)
        if request.get("OnFailure") and "DisableRollback" in request:
            raise Refused("You can specify either DisableRollback or OnFailure, but not both.")
        former = self.records.find_existing(name)
        if former is not None and former["StackStatus"] != "REVIEW_IN_PROGRESS":
            raise Refused(f"Stack [{name}] already exists", "AlreadyExistsException")
        # A stack in REVIEW_IN_PROGRESS keeps its id when it is created.
        stack = former or new_stack(name, "CREATE_IN_PROGRESS", request)
        submission = submissions.read(self.records, request, stack, self.provisioner.known_types)
        stack["DisableRollback"] = bool(request.get("DisableRollback")) or request.get("OnFailure") == "DO_NOTHING"
        stack["_stack_policy"] = request.get("StackPolicyBody", "")
        if former is None:
            self.records.add(stack)
        self._make_obsolete(stack)
        self.start(
            stack,
            submission,
            request,
            disable_rollback=stack["DisableRollback"],
            deletes_on_failure=request.get("OnFailure") == "DELETE",
        )
        return {"StackId": stack["StackId"]}

    def update_stack(self, request: Json) -> Json:
        """UpdateStack."""
        stack = self.records.find(request["StackName"])
        if stack is None:
            raise no_such_stack(request["StackName"])
        if stack["StackStatus"] not in UPDATABLE:
            raise cannot_be_updated(stack)
        previous = stack["_template"] if request.get("UsePreviousTemplate") else None
        submission = submissions.read(self.records, request, stack, self.provisioner.known_types, previous)
        if not is_changed(stack, submission, request):
            raise Refused("No updates are to be performed.")
        self._make_obsolete(stack)
        if policy := request.get("StackPolicyBody"):
            stack["_stack_policy"] = policy
        disable_rollback = bool(request.get("DisableRollback"))
        self.start(stack, submission, request, disable_rollback=disable_rollback, is_update=True)
        return {"StackId": stack["StackId"]}

    def start(
        self,
        stack: Stack,
        submission: Submission,
        request: Json,
        *,
        disable_rollback: bool,
        is_update: bool = False,
        deletes_on_failure: bool = False,
        imports: Json | None = None,
        drifted: Mapping[str, drift.Drifted] = MappingProxyType({}),
        around: Callable[[Work], Work] = lambda work: work,
    ) -> None:
        """Start to create or update a stack as submitted. `around` wraps the coroutine that does it.

        `drifted` are the resources that the update returns to the template's values.
        """
        previous = description_of(stack) if is_update else None
        if is_update or stack["StackStatus"] == "REVIEW_IN_PROGRESS":
            stack["LastUpdatedTime"] = now()
        take_over(stack, submission, request)
        context = OperationContext(self.records, self.provisioner, stack, submission.template, submission.parameters)
        context.stack_event("UPDATE_IN_PROGRESS" if is_update else "CREATE_IN_PROGRESS", "User Initiated")
        operation = deployment.new_operation(
            stack,
            submission,
            previous,
            disable_rollback=disable_rollback,
            retain_except_on_create=bool(request.get("RetainExceptOnCreate")),
            imports=imports or {},
            drifted=drifted,
        )
        work = deployment.deploy(self.records, self.provisioner, stack, operation)
        self.run(stack, around(self._deleted_after_failure(stack, work) if deletes_on_failure else work))

    def delete_stack(self, request: Json) -> Json:
        """DeleteStack. It succeeds for a stack that does not exist.

        A stack whose exports are in use keeps its status and gets an event with the reason; the call itself succeeds
        (public reports of "Delete canceled", iam-identity-center-team 474 and aws-cft-tools 27).
        """
        stack = self.records.find_existing(request["StackName"])
        if stack is None or stack["StackStatus"] == "DELETE_IN_PROGRESS":
            return {}
        name, status = stack["StackName"], stack["StackStatus"]
        if stack.get("EnableTerminationProtection"):
            raise Refused(f"Stack [{name}] cannot be deleted while TerminationProtection is enabled")
        if status.endswith("_IN_PROGRESS") and status not in ("CREATE_IN_PROGRESS", "REVIEW_IN_PROGRESS"):
            raise Refused(f"Stack [{name}] cannot be deleted while in status {status}")
        for output in stack.get("Outputs") or ():
            export = output.get("ExportName")
            if export and (users := importing_stacks(self.records, export, name)):
                reason = f"Delete canceled. Cannot delete export {export} as it is in use by {_enumerated(users)}."
                OperationContext(self.records, self.provisioner, stack).stack_event(status, reason)
                return {}
        retained, mode = request.get("RetainResources") or [], request.get("DeletionMode")
        if mode == "FORCE_DELETE_STACK" and status != "DELETE_FAILED":
            raise Refused(
                f"Invalid operation on stack [{stack['StackId']}]. You can activate DeletionMode FORCE_DELETE_STACK in "
                "a delete stack operation only when the stack is in the DELETE_FAILED state."
            )
        if retained and status != "DELETE_FAILED":
            raise Refused(
                f"Invalid operation on stack [{stack['StackId']}]. Specify ResourcesToRetain only when the stack is in "
                "the DELETE_FAILED state."
            )
        if unknown := sorted(set(retained) - set(stack["_resources"])):
            raise Refused(f"Resource(s) [{', '.join(unknown)}] do not exist in stack [{name}]")
        if mode:
            stack["DeletionMode"] = mode
        force = mode == "FORCE_DELETE_STACK"
        self.run(stack, deletion.delete_stack(self.records, self.provisioner, stack, retained, force=force))
        return {}

    def cancel_update_stack(self, request: Json) -> Json:
        """CancelUpdateStack. It sets a flag; the operation checks it before each step and rolls back."""
        stack = self.records.existing(request["StackName"])
        if stack["StackStatus"] != "UPDATE_IN_PROGRESS":
            raise Refused("CancelUpdateStack cannot be called from current stack status")
        stack["_cancel_requested"] = True
        stack["_cancel_token"] = events.client_request_token.get()
        return {}

    def continue_update_rollback(self, request: Json) -> Json:
        """ContinueUpdateRollback."""
        stack = self.records.existing(request["StackName"])
        if stack["StackStatus"] != "UPDATE_ROLLBACK_FAILED":
            raise Refused("ContinueUpdateRollback cannot be called from current stack status")
        skipped = request.get("ResourcesToSkip") or []
        if unknown := sorted(set(skipped) - set(stack.get("_rollback_failed") or ())):
            raise Refused(
                f"Resource(s) [{', '.join(unknown)}] cannot be skipped: only resources whose rollback failed can be "
                "skipped"
            )
        self.run(stack, rollback.continue_rollback(self.records, self.provisioner, stack, skipped))
        return {}

    def rollback_stack(self, request: Json) -> Json:
        """RollbackStack, for a stack whose operation failed with DisableRollback."""
        stack = self.records.existing(request["StackName"])
        operation = stack.get("_failed_operation")
        if stack["StackStatus"] not in ("CREATE_FAILED", "UPDATE_FAILED") or operation is None:
            raise Refused("RollbackStack cannot be called from current stack status")
        if "RetainExceptOnCreate" in request:
            operation["retain_except_on_create"] = request["RetainExceptOnCreate"]
        stack["StackStatus"] = "UPDATE_ROLLBACK_IN_PROGRESS" if operation["is_update"] else "ROLLBACK_IN_PROGRESS"
        self.run(stack, rollback.roll_back(self.records, self.provisioner, stack, operation, "User Initiated"))
        return {"StackId": stack["StackId"]}

    async def _deleted_after_failure(self, stack: Stack, work: Work) -> None:
        await work
        if stack["StackStatus"] in _STATUSES_OF_FAILED_CREATIONS:
            await deletion.delete_stack(self.records, self.provisioner, stack)

    def resume_interrupted(self) -> list[Stack]:
        """Finish every interrupted stack operation, as AWS would; return those stacks.

        A creation or an update is rolled back, a deletion or a rollback is finished.
        """
        resumed = []
        for stack in self.records.all_stacks():
            status = stack["StackStatus"]
            if not status.endswith("_IN_PROGRESS") or status == "REVIEW_IN_PROGRESS":
                continue
            resumed.append(stack)
            operation = stack.get("_operation")
            if status == "DELETE_IN_PROGRESS":
                self.run(stack, deletion.delete_stack(self.records, self.provisioner, stack))
            elif operation is not None:
                reason = "The local region was stopped."
                self.run(stack, rollback.roll_back(self.records, self.provisioner, stack, operation, reason))
            else:
                stack["StackStatus"] = status.replace("_IN_PROGRESS", "_FAILED")
        return resumed

    def signal_resource(self, request: Json) -> Json:
        """SignalResource, for a wait condition."""
        stack = self.records.existing(request["StackName"])
        logical_id, signal = request["LogicalResourceId"], request["Status"]
        if stack["StackStatus"] not in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"):
            raise Refused(f"Stack:{stack['StackId']} is in {stack['StackStatus']} state and can not be signaled")
        unique_id = request["UniqueId"]
        if not wait_conditions.signal_resource(stack["StackId"], logical_id, unique_id, signal):
            raise Refused(f"Resource {logical_id} of stack {stack['StackName']} does not wait for signals")
        reason = f"Received {signal} signal with UniqueId {unique_id}"
        events.add(self.records, stack, logical_id, wait_condition.TYPE, "CREATE_IN_PROGRESS", reason)
        return {}

    def update_termination_protection(self, request: Json) -> Json:
        """UpdateTerminationProtection."""
        stack = self.records.existing(request["StackName"])
        stack["EnableTerminationProtection"] = request["EnableTerminationProtection"]
        return {"StackId": stack["StackId"]}

    def set_stack_policy(self, request: Json) -> Json:
        """SetStackPolicy."""
        stack, policy = self.records.existing(request["StackName"]), request.get("StackPolicyBody")
        if policy and request.get("StackPolicyURL"):
            raise Refused("You cannot specify both StackPolicyURL and StackPolicyBody")
        try:
            json.loads(policy or "")
        except ValueError:
            raise Refused("Error validating stack policy: Invalid stack policy") from None
        stack["_stack_policy"] = policy
        return {}

    def get_stack_policy(self, request: Json) -> Json:
        """GetStackPolicy."""
        return {"StackPolicyBody": self.records.existing(request["StackName"]).get("_stack_policy") or None}

    def list_imports(self, request: Json) -> Json:
        """ListImports."""
        users = importing_stacks(self.records, request["ExportName"])
        if not users:
            raise Refused(f"Export '{request['ExportName']}' is not imported by any stack.")
        return {"Imports": users}

    def _make_obsolete(self, stack: Stack) -> None:
        """Mark the stack's pending change sets as OBSOLETE."""
        for change_set in self.records.change_sets_of(stack):
            if change_set["ExecutionStatus"] == "AVAILABLE":
                change_set["ExecutionStatus"] = "OBSOLETE"


def new_stack(name: str, status: str, request: Json) -> Stack:
    """The record of a new stack."""
    return {
        "StackName": name,
        "StackId": f"arn:aws:cloudformation:{get_region()}:{get_account_id()}:stack/{name}/{uuid.uuid4()}",
        "StackStatus": status,
        "StackStatusReason": "User Initiated",
        "CreationTime": now(),
        "Tags": request.get("Tags") or [],
        "Outputs": [],
        "DisableRollback": False,
        "EnableTerminationProtection": bool(request.get("EnableTerminationProtection")),
        "_region": get_region(),
        "_resources": {},
        "_template": {},
        "_template_body": "",
        "_resolved_params": {},
    }


def take_over(stack: Stack, submission: Submission, request: Json) -> None:
    """Copy the submitted template, parameters and tags to the stack's record."""
    stack["_template_body"] = submission.body
    stack["_resolved_params"] = submission.parameters
    stack["Description"] = submission.template.get("Description", "")
    for key, missing in (("Capabilities", []), ("NotificationARNs", None), ("RollbackConfiguration", None)):
        if key in request or missing is not None:
            stack[key] = request.get(key, missing)
    if "Tags" in request:
        stack["Tags"] = request["Tags"]
    for key in ("RoleARN", "TimeoutInMinutes"):
        if key in request:
            stack[key] = request[key]


def is_changed(stack: Stack, submission: Submission, request: Json) -> bool:
    """Whether an update would change the template, a parameter's value or the tags."""
    before = {name: each["Value"] for name, each in (stack.get("_resolved_params") or {}).items()}
    after = {name: each["Value"] for name, each in submission.parameters.items()}
    reads_again = "TemplateBody" in request and "{{resolve:" in submission.body
    return reads_again or submission.template != stack["_template"] or after != before or tags_differ(stack, request)


def tags_differ(stack: Stack, request: Json) -> bool:
    """Whether a request changes a stack's tags."""
    own = {tag["Key"]: tag["Value"] for tag in stack.get("Tags") or ()}
    return "Tags" in request and {tag["Key"]: tag["Value"] for tag in request["Tags"]} != own


def check_name(name: str) -> None:
    """Raises Refused where a new stack cannot have this name."""

    if not re.fullmatch(_NAME, name):
        raise Refused(
            f"1 validation error detected: Value '{name}' at 'stackName' failed to satisfy constraint: Member must "
            f"satisfy regular expression pattern: {_NAME}|arn:[-a-zA-Z0-9:/._+]*"
        )
    if len(name) > 128:
        raise Refused(
            f"1 validation error detected: Value '{name}' at 'stackName' failed to satisfy constraint: Member must "
            "have length less than or equal to 128"
        )


def cannot_be_updated(stack: Stack) -> Refused:
    """AWS's message for a stack whose status does not allow an update."""
    return Refused(f"Stack:{stack['StackId']} is in {stack['StackStatus']} state and can not be updated.")


def _enumerated(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
