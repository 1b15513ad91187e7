"""CloudFormation's drift detection, for resources that `drift.py` does not compare.

"DetectStackDrift can take up to several minutes" (API reference). It covers only properties that the template sets, and
only supported types. So all given stacks are compared in parallel, within a time limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from alva.aws import Aws, explained
from alva.errors import AlvaError, TimedOut
from alva.release.drift import OUTSIDE, Drift, Found, Kind, revert
from alva.release.stack_state import ObservedStack

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackResourceDriftTypeDef

DETECTION_SECONDS = 120
"""The time limit of the detection; a stack that takes longer is reported as not compared."""

NOTICED_TYPES = (
    "AWS::EC2::Route",
    "AWS::EC2::SecurityGroup",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SecurityGroupIngress",
    "AWS::ElasticLoadBalancingV2::Listener",
    "AWS::ElasticLoadBalancingV2::ListenerRule",
    "AWS::ElasticLoadBalancingV2::TargetGroup",
)
"""Types that decide whether requests arrive: their drift needs approval; other drift is only reported."""

COMPARED_TYPES = ("AWS::ECS::Service", "AWS::ECS::TaskDefinition", "AWS::ElasticLoadBalancingV2::ListenerRule")
"""Types that `drift.py` compares: detection would report the same again."""


def detect(aws: Aws, stacks: Sequence[ObservedStack], compared: Found) -> Found:
    """Return `compared` with the drift that CloudFormation finds in these stacks. Changes nothing."""
    with ThreadPoolExecutor(max_workers=max(len(stacks), 1), thread_name_prefix="drift") as pool:
        detected = list(pool.map(lambda stack: _detect(aws, stack), stacks))
    known = {drift.subject for drift in compared.drifts}
    return Found(
        drifts=(
            *compared.drifts,
            *(drift for found in detected for drift in found.drifts if drift.subject not in known),
        ),
        unseen=tuple(reason for found in detected for reason in found.unseen),
    )


def _detect(aws: Aws, stack: ObservedStack) -> Found:
    """Compare one stack; an error here must not stop a release."""
    cloudformation = aws.cloudformation
    what = f"detect the drift of stack {stack.name}"

    def ended() -> tuple[str, str] | None:
        with explained(what):
            answer = cloudformation.describe_stack_drift_detection_status(StackDriftDetectionId=detection)
        status = answer["DetectionStatus"]
        return None if status == "DETECTION_IN_PROGRESS" else (status, answer.get("DetectionStatusReason", ""))

    try:
        with explained(what):
            detection = cloudformation.detect_stack_drift(StackName=stack.name)["StackDriftDetectionId"]
        aws.poll.until(ended, timeout_seconds=DETECTION_SECONDS, what=f"the drift detection of {stack.name}")
        # Results count even where some resources could not be compared (DETECTION_FAILED).
        with explained(what):
            found = _resource_drifts(aws, stack.name)
    except TimedOut:
        return Found(unseen=(f"{stack.name}: not compared within {DETECTION_SECONDS} s",))
    except AlvaError as error:
        return Found(unseen=(f"{stack.name}: {'; '.join(error.evidence) or error.message}",))
    return Found(drifts=tuple(_detected(stack, each) for each in found if _counts(each)))


def _resource_drifts(aws: Aws, stack: str) -> list[StackResourceDriftTypeDef]:
    """Return all results of the last detection: botocore has no paginator for this call."""
    found: list[StackResourceDriftTypeDef] = []
    token: dict[str, Any] = {}
    while True:
        answer = aws.cloudformation.describe_stack_resource_drifts(
            StackName=stack, StackResourceDriftStatusFilters=["MODIFIED", "DELETED"], **token
        )
        found += answer["StackResourceDrifts"]
        if not answer.get("NextToken"):
            return found
        token = {"NextToken": answer["NextToken"]}


def _counts(found: StackResourceDriftTypeDef) -> bool:
    """Whether the result is not one of the direct comparison."""
    is_missing_log_group = (
        found["ResourceType"] == "AWS::Logs::LogGroup" and found["StackResourceDriftStatus"] == "DELETED"
    )
    return found["ResourceType"] not in COMPARED_TYPES and not is_missing_log_group


def _detected(stack: ObservedStack, found: StackResourceDriftTypeDef) -> Drift:
    if found["StackResourceDriftStatus"] == "DELETED":
        said = f"{found.get('PhysicalResourceId', '')} ({found['ResourceType']}) no longer exists"
    else:
        paths = [each["PropertyPath"].lstrip("/") for each in found.get("PropertyDifferences", [])]
        said = f"{found['ResourceType']} differs in {', '.join(paths) or 'some property'}"
    return Drift(
        kind=Kind.RESOURCE,
        subject=f"{stack.name}/{found['LogicalResourceId']}",
        message=f"{said}; {OUTSIDE}",
        asks=found["ResourceType"] in NOTICED_TYPES,
        next_step=revert(stack),
    )
