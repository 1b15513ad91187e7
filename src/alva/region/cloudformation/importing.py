"""Change sets that adopt existing resources: the IMPORT type, and ImportExistingResources.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/import-resources.html
"""

from __future__ import annotations

import logging
from typing import Any

from alva.region.cloudformation import deployment, imports
from alva.region.cloudformation.context import RETAINING_POLICIES, OperationContext
from alva.region.cloudformation.errors import Refused
from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.intrinsics import Json
from alva.region.cloudformation.operations import take_over
from alva.region.cloudformation.provisioning import Provisioner
from alva.region.cloudformation.store import ChangeSet, Stack, StackRecords, now
from alva.region.cloudformation.submissions import Submission

logger = logging.getLogger("alva.cloudformation")

REVIEW = (
    "Verify that resources and their properties defined in the template match the intended configuration of the "
    "resource import to avoid unexpected changes."
)


def check_frozen(stack: Stack, submission: Submission, request: Json) -> None:
    """Refuse an import that changes outputs or tags."""
    own = {tag["Key"]: tag["Value"] for tag in stack.get("Tags") or ()} if stack["_template"] else {}
    tags = {tag["Key"]: tag["Value"] for tag in request.get("Tags") or ()}
    frozen = ""
    if submission.template.get("Outputs", {}) != stack["_template"].get("Outputs", {}):
        frozen = "Outputs"
    elif "Tags" in request and tags != own:
        frozen = "Tags"
    if frozen:
        raise Refused(f"As part of the import operation, you cannot modify or add [{frozen}]")


async def of_request(records: StackRecords, submission: Submission, request: Json, changes: list[Json]) -> Json:
    """The changes of an IMPORT change set. Raises Refused where the request does not fit."""
    entries: list[Json] = request.get("ResourcesToImport") or []
    if not entries:
        raise Refused("Must Provide at least one resource to import")
    _check_entries(entries, submission.template["Resources"])
    _check_changes([each["LogicalResourceId"] for each in entries], submission.template["Resources"], changes)
    reason = await _problem(entries) or _owner(records, entries)
    if reason is not None:
        return _failed(reason)
    listed = _listed([_change(each) for each in entries])
    identifiers = {"_imports": {each["LogicalResourceId"]: each["ResourceIdentifier"] for each in entries}}
    if unsupported := sorted(
        {each["ResourceType"] for each in entries if imports.identifier(each["ResourceType"]) is None}
    ):
        reason = f"The local region does not honour the import of {', '.join(unsupported)}"
        return {"ExecutionStatus": "UNAVAILABLE", "StatusReason": reason, **listed, **identifiers}
    return {"StatusReason": REVIEW, **listed, **identifiers}


async def of_existing(records: StackRecords, submission: Submission, changes: list[Json]) -> Json:
    """The changes with ImportExistingResources: an added resource whose name exists is imported."""
    resources: Json = submission.template["Resources"]
    entries = []
    for change in changes:
        resource_type, logical_id = change["ResourceType"], change["LogicalResourceId"]
        key = imports.identifier(resource_type)
        name = (resources.get(logical_id, {}).get("Properties") or {}).get(key)
        # Only a literal name identifies an existing resource; one from a function is created.
        if change["Action"] != "Add" or key is None or not isinstance(name, str):
            continue
        try:
            exists = await imports.exists(resource_type, name)
        except HandlerFailed as error:
            return _failed(str(error))
        if exists:
            identifier = {key: name}
            entries.append(
                {"ResourceType": resource_type, "LogicalResourceId": logical_id, "ResourceIdentifier": identifier}
            )
    reason = _unretained(entries, resources) or _owner(records, entries)
    if reason is not None:
        return _failed(reason)
    adopted = {each["LogicalResourceId"]: _change(each) for each in entries}
    return {
        **_listed([adopted.get(each["LogicalResourceId"], each) for each in changes]),
        "_imports": {each["LogicalResourceId"]: each["ResourceIdentifier"] for each in entries},
    }


def _failed(reason: str) -> Json:
    return {"Status": "FAILED", "ExecutionStatus": "UNAVAILABLE", "StatusReason": reason, **_listed([])}


def _listed(changes: list[Json]) -> Json:
    return {"Changes": changes, "_valued": changes}


def _change(entry: Json) -> Json:
    return {
        "Action": "Import",
        "LogicalResourceId": entry["LogicalResourceId"],
        "PhysicalResourceId": _value(entry["ResourceIdentifier"]),
        "ResourceType": entry["ResourceType"],
        "Scope": [],
        "Details": [],
    }


def _value(identifier: dict[str, str]) -> str:
    """The physical id in a resource's identifier."""
    return next(iter(identifier.values()))


def _names(names: list[str]) -> str:
    return f"[{', '.join(names)}]"


def _check_entries(entries: list[Json], resources: Json) -> None:
    names = [each["LogicalResourceId"] for each in entries]
    if len(set(names)) != len(names):
        raise Refused("Every resource to import must have unique LogicalResourceId")
    if missing := [name for name in names if name not in resources]:
        raise Refused(
            f"The logical resource ids {_names(missing)} provided in ResourceToImport do not exist in the template."
        )
    for entry in entries:
        name, resource_type = entry["LogicalResourceId"], entry["ResourceType"]
        key = imports.identifier(resource_type)
        if key is not None and [*entry["ResourceIdentifier"]] != [key]:
            raise Refused(f"Invalid resource identifier for resource type {resource_type}. Expected [{key}]")
        if resource_type != resources[name]["Type"]:
            raise Refused(
                f"Resource type of [{name}] passed in ResourceToImport does not match with resource type defined in "
                f"the template. Resource type in ResourceToImport: {resource_type}; Resource type in Template: "
                f"{resources[name]['Type']}."
            )


def _check_changes(names: list[str], resources: Json, changes: list[Json]) -> None:
    """Refuse an import that changes anything beside the imported resources."""
    by_action: dict[str, list[str]] = {}
    for change in changes:
        by_action.setdefault(change["Action"], []).append(change["LogicalResourceId"])
    added = by_action.get("Add", [])
    if not added:
        raise Refused("The template should contain at least one new resource to import.")
    if present := [name for name in names if name not in added]:
        raise Refused(
            f"Resources {_names(present)} passed in ResourceToImport are already in a stack and cannot be imported."
        )
    if left := [name for name in added if name not in names]:
        raise Refused(f"Resources {_names(left)} is missing from ResourceToImport list")
    if modified := sorted(by_action.get("Modify", []) + by_action.get("Remove", [])):
        raise Refused(
            f"You have modified resources {_names(modified)} in your template that are not being imported. Update, "
            "create or delete operations cannot be executed during import operations."
        )
    if unprotected := [name for name in names if "DeletionPolicy" not in resources[name]]:
        raise Refused(
            f"The following resources to import {_names(unprotected)} must have DeletionPolicy attribute specified in "
            "the template."
        )


async def _problem(entries: list[Json]) -> str | None:
    for entry in entries:
        reason = await imports.problem_of(entry["ResourceType"], _value(entry["ResourceIdentifier"]))
        if reason is not None:
            return reason
    return None


def _owner(records: StackRecords, entries: list[Json]) -> str | None:
    """The message that names the stack which already owns a resource."""
    for entry in entries:
        physical_id = _change(entry)["PhysicalResourceId"]
        for stack in records.all_stacks():
            for record in (stack.get("_resources") or {}).values():
                if (record["ResourceType"], record["PhysicalResourceId"]) == (entry["ResourceType"], physical_id):
                    return f"{physical_id} already exists in stack {stack['StackId']}"
    return None


def _unretained(entries: list[Json], resources: Json) -> str | None:
    affected = [
        f"{each['LogicalResourceId']} "
        f"({{{', '.join(f'{key}={value}' for key, value in each['ResourceIdentifier'].items())}}})"
        for each in entries
        if resources[each["LogicalResourceId"]].get("DeletionPolicy") not in RETAINING_POLICIES
    ]
    if not affected:
        return None
    return (
        "CloudFormation is attempting to import some resources because they already exist in your account. The "
        "resources must have the DeletionPolicy attribute set to 'Retain' or 'RetainExceptOnCreate' in the template "
        f"for successful import. The affected resources are {', '.join(affected)}"
    )


async def import_resources(
    records: StackRecords, provisioner: Provisioner, stack: Stack, submission: Submission, change_set: ChangeSet
) -> None:
    """Execute an IMPORT change set: import its resources unchanged, and roll back if one cannot be read."""
    is_new = stack["StackStatus"] == "REVIEW_IN_PROGRESS"
    stack["LastUpdatedTime"] = now()
    context = OperationContext(records, provisioner, stack, submission.template, submission.parameters)
    context.stack_event("IMPORT_IN_PROGRESS", "User Initiated")
    identifiers: dict[str, dict[str, str]] = change_set["_imports"]
    adopted: list[str] = []
    for name in identifiers:
        adopted.append(name)
        try:
            await _adopt(context, name, identifiers[name])
        except Exception as error:
            logger.error("cannot import %s into %s: %s", name, context.name, error)
            context.event(name, context.definitions[name]["Type"], "IMPORT_FAILED", str(error))
            _roll_back(context, adopted, str(error), is_new=is_new)
            return
    take_over(stack, submission, change_set["_request"])
    stack["_template"] = submission.template
    context.stack_event("IMPORT_COMPLETE")


async def _adopt(context: OperationContext, name: str, identifier: dict[str, str]) -> None:
    definition, resources = context.definitions[name], context.stack["_resources"]
    made = await deployment.adopt(context, name, definition["Type"], identifier)
    resources[name] = {
        "PhysicalResourceId": made.physical_id,
        "ResourceType": definition["Type"],
        "ResourceStatus": "UPDATE_COMPLETE",
        "LogicalResourceId": name,
        "Properties": context.resolve(definition.get("Properties") or {}, resources),
        "Attributes": made.attributes,
        "Timestamp": now(),
    }


def _roll_back(context: OperationContext, adopted: list[str], reason: str, *, is_new: bool) -> None:
    context.stack_event("IMPORT_ROLLBACK_IN_PROGRESS", reason)
    for name in reversed(adopted):
        record: dict[str, Any] = context.stack["_resources"].pop(name, {})
        for status in ("IMPORT_ROLLBACK_IN_PROGRESS", "IMPORT_ROLLBACK_COMPLETE"):
            resource_type = context.definitions[name]["Type"]
            context.event(name, resource_type, status, physical_id=record.get("PhysicalResourceId", ""))
    context.stack_event("ROLLBACK_COMPLETE" if is_new else "IMPORT_ROLLBACK_COMPLETE")
