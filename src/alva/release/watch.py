"""What a release is held to after it has verified: a check that was changed must have judged, and nothing may crash.

ECS and CloudFormation are done once a new task was healthy once. Two things show only later: a health check that was
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
    """How long load balancers need to judge targets anew after updates from one template to the other, in seconds.

    0 where no target group that stays is checked differently: new targets of a new group hold the deployment up anyway.
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
            # One more: a check that is under way when the group changes was still the former.
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
    """Return after so long in which every check kept passing and no task ended by itself.

    Raises VerificationFailed with the checks that fail for longer than a moment, or with what ended and why.
    """
    since, deadline = datetime.now(UTC), time.monotonic() + seconds
    verification = Verification(aws, manifest, digests)
    while True:
        ended = [cause for cause in why.services_causes(aws, manifest, since=since) if cause.kind != "unknown"]
        if ended:
            raise VerificationFailed(
                "cannot call this release good: what it released does not go on running",
                evidence=[text for cause in ended for text in cause.lines()],
                next_step=ended[0].next_step,
            )
        verify.require(verification.run_until_good(verify.RELEASED_PATIENCE_SECONDS))
        left = deadline - time.monotonic()
        if left <= 0:
            return
        line(f"good so far, {left:.0f} s to go")
        aws.poll.pause(min(LOOK_SECONDS, left))
