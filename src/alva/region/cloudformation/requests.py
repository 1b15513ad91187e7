"""What MiniStack's CloudFormation API answers differently from AWS's, corrected around its own functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from ministack.services import cloudformation as records
from ministack.services.cloudformation import handlers
from ministack.services.cloudformation.helpers import _error, _p

from alva.region.cloudformation.context import Context, importing_stacks

Parameters = dict[str, Any]
Response = tuple[int, dict[str, str], Any]
Handler = Callable[[Parameters], Response]

NO_CHANGES = "The submitted information didn't contain changes."
UPDATABLE = (
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
)


def install() -> None:
    """Wrap MiniStack's handlers of the actions below."""
    for action, wrapper in WRAPPERS.items():
        handlers._ACTION_HANDLERS[action] = wrapper(handlers._ACTION_HANDLERS[action])


def _stack(parameters: Parameters) -> dict[str, Any] | None:
    stack: dict[str, Any] | None = handlers._resolve_stack(_p(parameters, "StackName"))
    return stack if stack and stack.get("StackStatus") != "DELETE_COMPLETE" else None


def _cannot_be_updated(stack: dict[str, Any]) -> Response:
    response: Response = _error(
        "ValidationError", f"Stack:{stack['StackId']} is in {stack['StackStatus']} state and can not be updated."
    )
    return response


def create_stack(original: Handler) -> Handler:
    """A stack in ROLLBACK_COMPLETE exists: it must be deleted before its name is free."""

    def handle(parameters: Parameters) -> Response:
        stack = _stack(parameters)
        if stack and stack["StackStatus"] == "ROLLBACK_COMPLETE":
            response: Response = _error("AlreadyExistsException", f"Stack [{stack['StackName']}] already exists")
            return response
        return original(parameters)

    return handle


def update_stack(original: Handler) -> Handler:
    """AWS's words for a stack whose state admits no update."""

    def handle(parameters: Parameters) -> Response:
        stack = _stack(parameters)
        if stack and stack["StackStatus"] not in UPDATABLE:
            return _cannot_be_updated(stack)
        return original(parameters)

    return handle


def create_change_set(original: Handler) -> Handler:
    """Refuses a stack that is busy or must be deleted first; accepts a change of the outputs alone."""

    def handle(parameters: Parameters) -> Response:
        stack = _stack(parameters)
        kind = _p(parameters, "ChangeSetType", "UPDATE")
        allowed = (*UPDATABLE, "REVIEW_IN_PROGRESS") if kind != "UPDATE" else UPDATABLE
        if stack and stack["StackStatus"] not in allowed:
            return _cannot_be_updated(stack)
        response = original(parameters)
        found = re.search(rb"<Id>(.*?)</Id>", response[2] if isinstance(response[2], bytes) else response[2].encode())
        change_set = records._change_sets.get(found[1].decode()) if found else None
        if (
            change_set
            and stack
            and kind == "UPDATE"
            and change_set["Status"] == "FAILED"
            and change_set["StatusReason"].startswith(NO_CHANGES)
            and _outputs_differ(stack, change_set)
        ):
            change_set.update(Status="CREATE_COMPLETE", ExecutionStatus="AVAILABLE", StatusReason="")
        return response

    return handle


def _outputs_differ(stack: dict[str, Any], change_set: dict[str, Any]) -> bool:
    """Whether the outputs would have other values, names or exports once the change set is executed."""
    context = Context(stack, change_set["_template"], change_set["_resolved_params"])
    new: dict[str, Any] = {}
    try:
        for key, definition in (context.template.get("Outputs") or {}).items():
            if not definition.get("Condition") or context.conditions.get(definition["Condition"], True):
                new[key] = context.resolve(definition, stack["_resources"])
    except Exception:
        # It does not resolve against what exists: then it certainly is not what the stack has.
        return True
    old = {output["OutputKey"]: output for output in stack.get("Outputs") or []}
    if set(new) != set(old):
        return True
    return any(
        str(new[key].get("Value")) != old[key]["OutputValue"]
        or (new[key].get("Export") or {}).get("Name") != old[key].get("ExportName")
        or (new[key].get("Description") or "") != (old[key].get("Description") or "")
        for key in new
    )


def execute_change_set(original: Handler) -> Handler:
    """Refuses a change set whose stack became busy since."""

    def handle(parameters: Parameters) -> Response:
        stack = _stack(parameters)
        if stack and stack["StackStatus"] not in (*UPDATABLE, "REVIEW_IN_PROGRESS"):
            response: Response = _error(
                "InvalidChangeSetStatus",
                f"ChangeSet [{_p(parameters, 'ChangeSetName')}] cannot be executed: stack {stack['StackName']} is in "
                f"{stack['StackStatus']} state",
            )
            return response
        return original(parameters)

    return handle


def delete_stack(original: Handler) -> Handler:
    """Refuses a stack in the middle of an update or a rollback; a second deletion changes nothing.

    A stack whose exports are in use keeps its status, with an event that says why; the call itself succeeds (public
    reports of "Delete canceled", iam-identity-center-team 474 and aws-cft-tools 27).
    """

    def handle(parameters: Parameters) -> Response:
        stack = _stack(parameters)
        status = stack["StackStatus"] if stack else ""
        if stack and status == "DELETE_IN_PROGRESS":
            return _deleting()
        if stack and status.endswith("_IN_PROGRESS") and status not in ("CREATE_IN_PROGRESS", "REVIEW_IN_PROGRESS"):
            refused: Response = _error(
                "ValidationError", f"Stack [{stack['StackName']}] cannot be deleted while in status {status}"
            )
            return refused
        for output in (stack or {}).get("Outputs") or []:
            name = output.get("ExportName")
            if stack and name and (users := importing_stacks(name, stack["StackName"])):
                context = Context(stack, stack.get("_template") or {}, stack.get("_resolved_params") or {})
                context.stack_event(
                    status, f"Delete canceled. Cannot delete export {name} as it is in use by {_enumerated(users)}."
                )
                return _deleting()
        return original(parameters)

    return handle


def _deleting() -> Response:
    response: Response = handlers._xml(200, "DeleteStackResponse", "")
    return response


def _enumerated(names: list[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last


WRAPPERS: dict[str, Callable[[Handler], Handler]] = {
    "CreateStack": create_stack,
    "UpdateStack": update_stack,
    "CreateChangeSet": create_change_set,
    "ExecuteChangeSet": execute_change_set,
    "DeleteStack": delete_stack,
}
