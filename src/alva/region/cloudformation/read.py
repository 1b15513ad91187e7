"""The calls that describe stacks. As on AWS, a member that does not apply is left out instead of being empty.

The shapes were recorded from AWS (`tests/region/aws_facts/cloudformation.json`).
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from alva.region.cloudformation import template
from alva.region.cloudformation.context import Context
from alva.region.cloudformation.errors import Refused, no_such_stack
from alva.region.cloudformation.intrinsics import NO_VALUE, Json, text
from alva.region.cloudformation.store import Stack, StackRecords

PAGE_SIZE = 100
# Members of a resource's record that responses contain.
_RESOURCE_MEMBERS = ("ResourceStatus", "ResourceType", "ResourceStatusReason", "PhysicalResourceId")


def seconds(timestamp: Any) -> float | None:
    """A record's time as seconds since the epoch, None where there is none."""
    return datetime.fromisoformat(str(timestamp)).timestamp() if timestamp else None


def page(items: list[Any], request: Json, action: str, size: int = PAGE_SIZE) -> tuple[list[Any], str | None]:
    """The page of items for a request, and the token of the next page. Raises Refused for an unknown token."""
    start = 0
    if token := request.get("NextToken"):
        issuer, _, offset = str(token).partition(":")
        if issuer != action or not offset.isdigit():
            raise Refused("Invalid NextToken")
        start = int(offset)
    following = start + size
    return items[start:following], f"{action}:{following}" if following < len(items) else None


def _stack(stack: Stack) -> Json:
    is_deleted = stack["StackStatus"] == "DELETE_COMPLETE"
    return {
        **{key: stack.get(key) for key in ("StackName", "StackId", "StackStatus", "ChangeSetId", "DeletionMode")},
        **{key: stack.get(key) or None for key in ("StackStatusReason", "Description", "Capabilities", "RoleARN")},
        **{key: seconds(stack.get(key)) for key in ("CreationTime", "LastUpdatedTime", "DeletionTime")},
        "DisableRollback": bool(stack.get("DisableRollback")),
        "EnableTerminationProtection": None if is_deleted else bool(stack.get("EnableTerminationProtection")),
        "TimeoutInMinutes": stack.get("TimeoutInMinutes"),
        "NotificationARNs": stack.get("NotificationARNs") or [],
        "RollbackConfiguration": stack.get("RollbackConfiguration") or {},
        "Parameters": parameters(stack.get("_resolved_params") or {}) or None,
        "Outputs": [_output(each) for each in stack.get("Outputs") or ()] or None,
        "Tags": [{"Key": tag["Key"], "Value": tag["Value"]} for tag in stack.get("Tags") or ()],
        "DriftInformation": _drift(stack, "StackDriftStatus"),
    }


def parameters(resolved: Json) -> list[Json]:
    """Parameters in a response: hidden where NoEcho is set, with the resolved value of Parameter Store."""
    return [
        {
            "ParameterKey": name,
            "ParameterValue": "****" if each["NoEcho"] else text(each.get("SsmName", each["Value"])),
            "ResolvedValue": each["Value"] if "SsmName" in each else None,
        }
        for name, each in resolved.items()
    ]


def _output(output: Json) -> Json:
    return {
        **{key: output[key] for key in ("OutputKey", "OutputValue")},
        **{key: output.get(key) or None for key in ("Description", "ExportName")},
    }


def _drift(record: Json, key: str) -> Json:
    known = record.get("DriftInformation") or {}
    return {key: known.get(key, "NOT_CHECKED"), "LastCheckTimestamp": seconds(known.get("LastCheckTimestamp"))}


def _resource(stack: Stack, logical_id: str, record: Json, time_member: str) -> Json:
    return {
        "LogicalResourceId": logical_id,
        **{key: record.get(key) or None for key in _RESOURCE_MEMBERS},
        time_member: seconds(record.get("Timestamp")),
        "StackName": stack["StackName"],
        "StackId": stack["StackId"],
        "DriftInformation": _drift(record, "StackResourceDriftStatus"),
    }


def _has(stack: Stack, physical_id: str | None) -> bool:
    records = (stack.get("_resources") or {}).values()
    return any(each.get("PhysicalResourceId") == physical_id for each in records)


def _has_transform(body: str) -> bool:
    return "Transform" in body and ("Transform" in template.parse(body) or "Fn::Transform" in body)


class StackDescriptions:
    """The calls that describe stacks."""

    def __init__(self, records: StackRecords) -> None:
        self._records = records

    def describe_stacks(self, request: Json) -> Json:
        """DescribeStacks."""
        name = request.get("StackName")
        if name is None:
            found = [each for each in self._records.all_stacks() if each["StackStatus"] != "DELETE_COMPLETE"]
        else:
            stack = self._records.find(name)
            if stack is None:
                raise Refused(f"Stack with id {name} does not exist")
            found = [stack]
        shown, token = page(found, request, "DescribeStacks")
        return {"Stacks": [_stack(each) for each in shown], "NextToken": token}

    def list_stacks(self, request: Json) -> Json:
        """ListStacks."""
        wanted = request.get("StackStatusFilter")
        found = [each for each in self._records.all_stacks() if not wanted or each["StackStatus"] in wanted]
        shown, token = page(found, request, "ListStacks")
        summaries = [
            {
                **{key: each.get(key) or None for key in ("StackName", "StackId", "StackStatus", "StackStatusReason")},
                **{key: seconds(each.get(key)) for key in ("CreationTime", "LastUpdatedTime", "DeletionTime")},
                "TemplateDescription": each.get("Description") or None,
                "DriftInformation": _drift(each, "StackDriftStatus"),
            }
            for each in shown
        ]
        return {"StackSummaries": summaries, "NextToken": token}

    def describe_stack_events(self, request: Json) -> Json:
        """DescribeStackEvents, the newest first."""
        stack = self._records.find(request["StackName"])
        if stack is None:
            raise no_such_stack(request["StackName"])
        shown, token = page(self._records.events.get(stack["StackId"], [])[::-1], request, "DescribeStackEvents")
        events = [
            {
                **{key: each.get(key) or None for key in each if key not in ("Timestamp", "PhysicalResourceId")},
                "PhysicalResourceId": each.get("PhysicalResourceId", ""),
                "Timestamp": seconds(each["Timestamp"]),
            }
            for each in shown
        ]
        return {"StackEvents": events, "NextToken": token}

    def describe_events(self, request: Json) -> Json:
        """DescribeEvents: the failures of an operation's validation. Here all validation precedes the operation."""
        name = request.get("StackName")
        if name and self._records.find(name) is None:
            raise no_such_stack(name)
        return {"OperationEvents": []}

    def describe_stack_resource(self, request: Json) -> Json:
        """DescribeStackResource, with the resource's metadata from the template."""
        stack, logical_id = self._records.find(request["StackName"]), request["LogicalResourceId"]
        if stack is None:
            raise Refused(f"Stack '{request['StackName']}' does not exist")
        record = (stack.get("_resources") or {}).get(logical_id)
        if record is None:
            raise Refused(f"Resource {logical_id} does not exist for stack {stack['StackName']}")
        definition = ((stack.get("_template") or {}).get("Resources") or {}).get(logical_id) or {}
        metadata = definition.get("Metadata")
        if metadata is not None:
            resolved = Context.of(self._records, stack).resolve(metadata, stack["_resources"])
            metadata = json.dumps(metadata if resolved is NO_VALUE else resolved)
        detail = {**_resource(stack, logical_id, record, "LastUpdatedTimestamp"), "Metadata": metadata}
        return {"StackResourceDetail": detail}

    def describe_stack_resources(self, request: Json) -> Json:
        """DescribeStackResources of a stack, or of the stack that owns a physical id."""
        physical_id, logical_id = request.get("PhysicalResourceId"), request.get("LogicalResourceId")
        name = request.get("StackName")
        if name:
            stack = self._records.find(name)
            if stack is None:
                raise Refused(f"Stack with id {name} does not exist")
        else:
            stack = next((each for each in self._records.all_stacks() if _has(each, physical_id)), None)
            if stack is None:
                raise Refused(f"Stack for {physical_id} does not exist")
        resources: Json = stack.get("_resources") or {}
        if logical_id and logical_id not in resources:
            raise Refused(f"Resource {logical_id} does not exist for stack {stack['StackName']}")
        shown = {key: each for key, each in resources.items() if logical_id in (None, key)}
        return {"StackResources": [_resource(stack, key, each, "Timestamp") for key, each in shown.items()]}

    def list_stack_resources(self, request: Json) -> Json:
        """ListStackResources."""
        stack = self._records.find(request["StackName"])
        if stack is None:
            raise Refused(f"Stack with id {request['StackName']} does not exist")
        shown, token = page(list((stack.get("_resources") or {}).items()), request, "ListStackResources")
        return {
            "StackResourceSummaries": [_resource(stack, key, each, "LastUpdatedTimestamp") for key, each in shown],
            "NextToken": token,
        }

    def get_template(self, request: Json) -> Json:
        """GetTemplate of a stack or of a change set."""
        name, change_set_name = request.get("StackName"), request.get("ChangeSetName")
        if not name and not change_set_name:
            raise Refused("StackName is required if ChangeSetName is not specified.")
        stack = self._records.find(name) if name else None
        if name and stack is None:
            raise Refused(f"Stack with id {name} does not exist")
        record: Json | None = stack
        if change_set_name:
            if not name and not change_set_name.startswith("arn:"):
                raise Refused("StackName must be specified if ChangeSetName is not specified as an ARN.")
            record = self._records.find_change_set(change_set_name, stack)
            if record is None:
                raise Refused(f"ChangeSet [{change_set_name}] does not exist", "ChangeSetNotFound", 404)
        assert record is not None  # noqa: S101 - refused above
        body = record.get("_template_body") or "{}"
        if request.get("TemplateStage", "Processed") == "Processed" and _has_transform(body):
            body = json.dumps(record["_template"])
        return {"TemplateBody": body, "StagesAvailable": ["Original", "Processed"]}

    def list_exports(self, request: Json) -> Json:
        """ListExports."""
        shown, token = page(sorted(self._records.exports.items()), request, "ListExports")
        return {
            "Exports": [
                {"ExportingStackId": each["StackId"], "Name": name, "Value": each["Value"]} for name, each in shown
            ],
            "NextToken": token,
        }
