"""The health of one target: AWS's states and reasons, and the transitions between them.

Pure: no socket, no clock. `checker.py` checks the targets and passes the results in.
Source: https://docs.aws.amazon.com/elasticloadbalancing/latest/application/target-group-health-checks.html
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class State(StrEnum):
    """`TargetHealth.State` of DescribeTargetHealth."""

    INITIAL = "initial"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DRAINING = "draining"
    UNUSED = "unused"


@dataclass(frozen=True)
class TargetHealth:
    """The health of one target in DescribeTargetHealth. A healthy one has neither reason nor description."""

    state: State
    reason: str | None = None
    description: str | None = None


REGISTRATION_IN_PROGRESS = TargetHealth(
    State.INITIAL, "Elb.RegistrationInProgress", "Target registration is in progress"
)
INITIAL_HEALTH_CHECKING = TargetHealth(State.INITIAL, "Elb.InitialHealthChecking", "Initial health checks in progress")
HEALTHY = TargetHealth(State.HEALTHY)
DRAINING = TargetHealth(State.DRAINING, "Target.DeregistrationInProgress", "Target deregistration is in progress")
NOT_IN_USE = TargetHealth(
    State.UNUSED,
    "Target.NotInUse",
    "Target group is not configured to receive traffic from the load balancer",
)
NOT_REGISTERED = TargetHealth(State.UNUSED, "Target.NotRegistered", "Target is not registered to the target group")


@dataclass(frozen=True)
class CheckResult:
    """The result of one health check: `reason` is None when it succeeded."""

    reason: str | None = None
    description: str | None = None

    @property
    def succeeded(self) -> bool:
        return self.reason is None


SUCCESS = CheckResult()
TIMED_OUT = CheckResult("Target.Timeout", "Request timed out")
FAILED = CheckResult("Target.FailedHealthChecks", "Health checks failed")


def code_mismatch(status_code: int) -> CheckResult:
    """The result for a status code that the matcher does not accept."""
    return CheckResult("Target.ResponseCodeMismatch", f"Health checks failed with these codes: [{status_code}]")


@dataclass(frozen=True)
class CheckedHealth:
    """A target's health, with the number of consecutive equal results."""

    health: TargetHealth = REGISTRATION_IN_PROGRESS
    successes: int = 0
    failures: int = 0

    def after(self, result: CheckResult, healthy_threshold: int, unhealthy_threshold: int) -> CheckedHealth:
        """The health after one more check.

        One success makes a new target healthy. After that the thresholds of consecutive results apply. An unhealthy
        target shows the reason of its latest failure.
        """
        if result.succeeded:
            successes = self.successes + 1
            needed = healthy_threshold if self.health.state is State.UNHEALTHY else 1
            health = HEALTHY if successes >= needed else self.health
            return CheckedHealth(health, successes=successes)
        failures = self.failures + 1
        failed = TargetHealth(State.UNHEALTHY, result.reason, result.description)
        if self.health.state is State.UNHEALTHY or failures >= unhealthy_threshold:
            return CheckedHealth(failed, failures=failures)
        health = INITIAL_HEALTH_CHECKING if self.health.state is State.INITIAL else self.health
        return replace(self, health=health, successes=0, failures=failures)


def matches(matcher: str, status_code: int) -> bool:
    """Whether a target group's `Matcher.HttpCode` ("200", "200,202", "200-299") accepts a status code."""
    for part in matcher.split(","):
        low, _, high = part.strip().partition("-")
        if int(low) <= status_code <= int(high or low):
            return True
    return False
