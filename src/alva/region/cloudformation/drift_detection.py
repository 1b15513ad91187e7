"""The calls of drift detection. A detection is complete when the call that starts it answers."""

from __future__ import annotations

import uuid

from alva.region.cloudformation.drift import Drift
from alva.region.cloudformation.errors import Refused
from alva.region.cloudformation.intrinsics import Json
from alva.region.cloudformation.read import PAGE_SIZE, page, seconds
from alva.region.cloudformation.store import Stack, StackRecords, now

# CloudFormation User Guide, "Detect drift on an entire CloudFormation stack".
_DETECTABLE = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_ROLLBACK_FAILED")
# AWS's API reference: "the number of drift results ... retains for any given stack ... may vary".
_MOST_DETECTIONS = 10


class DriftDetection:
    """The calls of drift detection."""

    def __init__(self, records: StackRecords, drift: Drift) -> None:
        self._records = records
        self._drift = drift

    async def detect_stack_drift(self, request: Json) -> Json:
        """DetectStackDrift."""
        stack = self._detectable(request)
        resources: Json = stack["_resources"]
        wanted = request.get("LogicalResourceIds") or list(resources)
        if unknown := sorted(set(wanted) - set(resources)):
            raise Refused(f"Resource(s) [{', '.join(unknown)}] do not exist in stack [{stack['StackName']}]")
        compared = [name for name in wanted if self._drift.is_detected(resources[name]["ResourceType"])]
        checked = {name: await self._checked(stack, name, resources[name]) for name in compared}
        statuses = {name: each["StackResourceDriftStatus"] for name, each in checked.items()}
        drifted = sum(status in ("MODIFIED", "DELETED") for status in statuses.values())
        failed = sorted(name for name, status in statuses.items() if status == "UNKNOWN")
        detection = {
            "StackId": stack["StackId"],
            "StackDriftDetectionId": str(uuid.uuid4()),
            "StackDriftStatus": "DRIFTED" if drifted else "UNKNOWN" if failed else "IN_SYNC",
            "DetectionStatus": "DETECTION_FAILED" if failed else "DETECTION_COMPLETE",
            "Timestamp": now(),
        }
        if failed:
            detection["DetectionStatusReason"] = f"Failed to detect drift on resources [{', '.join(failed)}]"
        else:
            detection["DriftedStackResourceCount"] = drifted
        stack["DriftInformation"] = {
            "StackDriftStatus": detection["StackDriftStatus"],
            "LastCheckTimestamp": detection["Timestamp"],
        }
        detections = stack.setdefault("_drift_detections", {})
        detections[detection["StackDriftDetectionId"]] = detection
        while len(detections) > _MOST_DETECTIONS:
            del detections[next(iter(detections))]
        return {"StackDriftDetectionId": detection["StackDriftDetectionId"]}

    def describe_stack_drift_detection_status(self, request: Json) -> Json:
        """DescribeStackDriftDetectionStatus."""
        detection_id = request["StackDriftDetectionId"]
        for stack in self._records.all_stacks():
            if detection := (stack.get("_drift_detections") or {}).get(detection_id):
                return {**detection, "Timestamp": seconds(detection["Timestamp"])}
        raise Refused(f"Drift detection with id [{detection_id}] does not exist")

    async def detect_stack_resource_drift(self, request: Json) -> Json:
        """DetectStackResourceDrift."""
        stack, logical_id = self._detectable(request), request["LogicalResourceId"]
        record = stack["_resources"].get(logical_id)
        if record is None:
            raise Refused(f"Resource [{logical_id}] does not exist in stack [{stack['StackName']}]")
        if not self._drift.is_detected(record["ResourceType"]):
            raise Refused(f"Drift detection is not supported for resource type [{record['ResourceType']}]")
        checked = await self._checked(stack, logical_id, record)
        known = stack.setdefault("DriftInformation", {"StackDriftStatus": "NOT_CHECKED"})
        known["LastCheckTimestamp"] = checked["Timestamp"]
        return {"StackResourceDrift": _described(checked)}

    def describe_stack_resource_drifts(self, request: Json) -> Json:
        """DescribeStackResourceDrifts: of the resources that have been checked."""
        stack, wanted = self._records.existing(request["StackName"]), request.get("StackResourceDriftStatusFilters")
        found = [record["_drift"] for record in (stack.get("_resources") or {}).values() if record.get("_drift")]
        found = [each for each in found if not wanted or each["StackResourceDriftStatus"] in wanted]
        shown, token = page(found, request, "DescribeStackResourceDrifts", request.get("MaxResults", PAGE_SIZE))
        return {"StackResourceDrifts": [_described(each) for each in shown], "NextToken": token}

    async def _checked(self, stack: Stack, logical_id: str, record: Json) -> Json:
        """The present drift of a resource, which its record keeps."""
        found = {**await self._drift.detect(stack, logical_id, record), "Timestamp": now()}
        record["_drift"] = found
        record["DriftInformation"] = {
            "StackResourceDriftStatus": found["StackResourceDriftStatus"],
            "LastCheckTimestamp": found["Timestamp"],
        }
        return found

    def _detectable(self, request: Json) -> Stack:
        stack = self._records.existing(request["StackName"])
        if stack["StackStatus"] not in _DETECTABLE:
            raise Refused(
                f"Stack [{stack['StackName']}] is in {stack['StackStatus']} state; drift detection is available in "
                f"{', '.join(_DETECTABLE[:-1])} and {_DETECTABLE[-1]}"
            )
        return stack


def _described(found: Json) -> Json:
    return {**found, "Timestamp": seconds(found["Timestamp"])}
