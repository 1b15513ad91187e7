"""Watches a release after its verification: changed health checks must pass, and no task may crash.

ECS and CloudFormation finish when a new task is healthy once. Two faults appear only later: a health check that was
changed on a target group in use (AWS does not wait for it: "Modify health check settings" takes effect at the next
check), and a version that runs for a while and then ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from alva.aws import Aws
from alva.errors import VerificationFailed
from alva.release import verify, why
from alva.release.manifest import Manifest
from alva.release.verify import Verification

Template = Mapping[str, Any]

CHECK_PROPERTIES = (
    "HealthCheckEnabled",
    "HealthCheckPath",
    "HealthCheckPort",
    "HealthCheckProtocol",
    "HealthCheckIntervalSeconds",
    "HealthCheckTimeoutSeconds",
    "HealthyThresholdCount",
    "UnhealthyThresholdCount",
    "Matcher",
)

LOOK_SECONDS = 1.0


def judging_seconds(pairs: Iterable[tuple[Template, Template]]) -> float:
    """Return the seconds that load balancers need to evaluate targets after updates between the given templates.

    0 if no existing target group gets another health check: targets of a new group delay the deployment in any case.
    The defaults are those of CreateTargetGroup for targets of type ip.
    """
    longest = 0.0
    for before, after in pairs:
        formerly = _target_groups(before)
        for logical_id, properties in _target_groups(after).items():
            earlier = formerly.get(logical_id)
            if earlier is None or all(earlier.get(name) == properties.get(name) for name in CHECK_PROPERTIES):
                continue
            threshold = max(
                int(properties.get("UnhealthyThresholdCount", 2)), int(properties.get("HealthyThresholdCount", 5))
            )
            interval = float(properties.get("HealthCheckIntervalSeconds", 30))
            # One more: a check in progress during the change still uses the former settings.
            longest = max(longest, interval * (threshold + 1) + float(properties.get("HealthCheckTimeoutSeconds", 5)))
    return longest


def _target_groups(template: Template) -> dict[str, Mapping[str, Any]]:
    return {
        logical_id: resource.get("Properties", {})
        for logical_id, resource in template.get("Resources", {}).items()
        if resource.get("Type") == "AWS::ElasticLoadBalancingV2::TargetGroup"
    }


def watch(
    aws: Aws, manifest: Manifest, digests: Mapping[str, str], line: Callable[[str], None], *, seconds: float
) -> None:
    """Watch for the given time; return if every check keeps passing and no task ends.

    Raises VerificationFailed with the checks that keep failing, or with the task that ended and its reason.
    """
    since, deadline = datetime.now(UTC), time.monotonic() + seconds
    verification = Verification(aws, manifest, digests)
    while True:
        ended = [cause for cause in why.services_causes(aws, manifest, since=since) if cause.kind != "unknown"]
        if ended:
            raise VerificationFailed(
                "cannot verify: the new version does not keep running",
                evidence=[text for cause in ended for text in cause.lines()],
                next_step=ended[0].next_step,
            )
        verify.require(verification.run_until_good(verify.RELEASED_PATIENCE_SECONDS))
        left = deadline - time.monotonic()
        if left <= 0:
            return
        line(f"all checks pass, {left:.0f} s left")
        aws.poll.pause(min(LOOK_SECONDS, left))
