"""Causes that the load balancer, a verification or AWS's API reports."""

from __future__ import annotations

from alva.release.causes.known_cause import AWS, ECS, LOGS, RELEASE, KnownCause, Source

QUOTA = "./alva preflight names the quota and the command that requests an increase"

HEALTH = (
    # From the load balancer. A verification quotes the targets' reasons.
    KnownCause(
        "health-path",
        ECS | RELEASE,
        r"(?:Health checks failed with these codes: \[|^inside: \S+ by name: [^\n]*HTTP )(?P<code>404|405|30\d)\b",
        "its health check path answers {code}: it is not the path that the service serves",
        "HealthCheckPath and the service's route must agree: ./alva preflight",
    ),
    KnownCause(
        "health-forbidden",
        ECS | RELEASE,
        r"Health checks failed with these codes: \[(?P<code>40[013])\]",
        "its health check is refused with {code}",
        "the health path must not require sign-in",
    ),
    KnownCause(
        "health-error",
        ECS | RELEASE,
        r"Health checks failed with these codes: \[(?P<code>5\d\d)\]",
        "its health check answers {code}",
        LOGS,
    ),
    KnownCause(
        "health-timeout",
        ECS | RELEASE,
        r"Request timed out|Target\.Timeout",
        "its health check times out: it hangs, or no security group rule admits the load balancer",
        "./alva preflight --reachability shows what can reach it",
    ),
)

VERIFICATION = (
    KnownCause(
        "drift",
        RELEASE,
        r"(?P<what>\S+) runs: \S+ is deployed, \S+ should be",
        "{what} runs another image than its stack says: somebody changed it outside CloudFormation",
        "./alva deploy reverts it",
    ),
    KnownCause(
        "wrong-answerer",
        RELEASE,
        r"(?P<what>\S+ answers \S+): HTTP \d+ from (?P<other>[0-9a-f]{12}), not from",
        "another image answers than the released one ({what}): its listener rule is missing, or comes after another",
        "./alva diff shows the rule's drift, and the command that reverts it",
    ),
    KnownCause(
        "no-target",
        RELEASE,
        r"(?P<what>\S+ answers \S+): HTTP 503|no target is healthy",
        "no target is healthy",
        "./alva status shows its targets",
    ),
    KnownCause(
        "server-error",
        RELEASE,
        r"(?P<what>\S+ answers \S+): HTTP (?P<code>5\d\d)",
        "users get HTTP {code} ({what})",
        "./alva logs --since 10m",
    ),
    KnownCause(
        "client-error",
        RELEASE,
        r"(?P<what>\S+ answers \S+): HTTP (?P<code>4\d\d)",
        "users get HTTP {code} ({what}): the page does not exist, or requires sign-in",
        "make the released version answer that path without sign-in, or correct `paths` of the service's entry",
    ),
    KnownCause(
        "dependency",
        RELEASE,
        r"^inside: (?P<what>\S+) by name: [^\n]*HTTP 5\d\d: (?P<states>[^\n]+)",
        "{what} runs, but cannot use its dependencies: {states}",
        "./alva diff shows changed addresses and secrets; ./alva preflight --reachability shows allowed connections",
    ),
    KnownCause(
        "no-answer",
        RELEASE,
        r"(?P<what>\S+ answers \S+): no answer",
        "the load balancer does not answer ({what})",
        "./alva status; ./alva preflight --reachability shows whether ports 80 and 443 are open",
    ),
)

EFFECTS = (
    # Effects: these match only where no text names the cause.
    KnownCause(
        "alarm",
        AWS | RELEASE,
        r"deployment alarm|alarm detected|was triggered by alarm",
        "an alarm went off during its rollout",
        "./alva verify names the alarm; ./alva logs {subject} shows the errors",
    ),
    KnownCause(
        "no-capacity",
        AWS,
        r"was unable to place a task[^\n]*|RESOURCE:(?:ENI|FARGATE)|Capacity is unavailable|not enough free addresses",
        "ECS has no capacity for its task",
        "./alva preflight checks the quota of Fargate vCPUs; aws ec2 describe-subnets shows free addresses",
    ),
    KnownCause(
        "name-taken",
        frozenset({Source.STACK}),
        r"already exists",
        "a resource of that name exists already, outside the stack",
        "find its owner; then import it into the stack, or rename the stack's resource",
    ),
    KnownCause(
        "in-use",
        frozenset({Source.STACK}),
        r"as it is in use by|cannot be deleted as it is in use",
        "another resource still uses what should be deleted",
        "remove the reference that the evidence names, then release again",
    ),
    KnownCause(
        "forbidden",
        AWS | RELEASE,
        r"AccessDenied|is not authorized to perform",
        "the caller, or the role that the evidence names, lacks a permission",
        "grant the permission that the evidence names",
    ),
    KnownCause("quota", AWS, r"LimitExceeded|quota", "a quota of the account is used up", QUOTA),
    KnownCause(
        "quota",
        RELEASE,
        r"\b\w*(?:LimitExceeded|QuotaExceeded)(?:Exception|Fault)?\b",
        "a quota of the account is used up",
        QUOTA,
    ),
    KnownCause("throttled", AWS | RELEASE, r"Rate exceeded|Throttling", "AWS throttled the calls", "release again"),
)
