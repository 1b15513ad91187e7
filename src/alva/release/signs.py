"""Recognises why something failed from what AWS and the services said about it. Values in, values out.

Each sign is a text that AWS, PostgreSQL, Valkey or a service of ours is known to say. The first that is found decides:
those that name a cause stand before those that only describe its effect ("Essential container in task exited").
AWS: "Amazon ECS stopped tasks error messages", "Amazon ECS service event messages", "ELB target health reason codes".
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SHOWN_CHARACTERS = 400


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What is known about one thing that failed."""

    subject: str
    """The service (`api`), stack or step."""
    said: tuple[str, ...] = ()
    """Stopped reasons, container reasons, events and stack events, the most telling first."""
    exit_codes: tuple[tuple[str, int], ...] = ()
    """Container and its exit code, where it ended."""
    logs: tuple[str, ...] = ()
    """The last lines, oldest first."""
    port: int | None = None
    grace_seconds: int | None = None
    """How long after its start health checks do not count."""
    ran_seconds: float | None = None
    count: int = 1
    """How many tasks failed."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """One cause, what shows it, and what to do."""

    subject: str
    kind: str
    """The sign's name."""
    cause: str
    evidence: tuple[str, ...]
    next_step: str

    def lines(self) -> list[str]:
        """For a person, each naming the subject."""
        return [f"{self.subject}: {self.cause}", *(f"{self.subject}: {line}" for line in self.evidence)]

    def as_json(self) -> dict[str, object]:
        """The same as values."""
        return {
            "subject": self.subject,
            "kind": self.kind,
            "cause": self.cause,
            "evidence": list(self.evidence),
            "next": self.next_step,
        }


@dataclass(frozen=True)
class Sign:
    """A text that gives a cause away. `cause` and `next_step` may use the pattern's groups and `subject`, `port`."""

    kind: str
    pattern: str
    cause: str
    next_step: str


SECRETS_CHECK = "./alva secrets check"
LOGS = "./alva logs {subject} --since 1h"
RELEASE = "correct it and release again"

PLATFORM = (
    # Nothing that the service did: where it ran went away. Stopped codes TerminationNotice and SpotInterruption.
    Sign(
        "region-stopped",
        r"The local region was stopped while the task ran",
        "its tasks ended with the local region, which was stopped",
        "./alva status: those that take their place start with the region",
    ),
    Sign(
        "spot-interrupted",
        r"Your Spot Task was interrupted",
        "AWS took its Spot capacity back",
        "./alva status: ECS starts another; tasks.spot = False keeps to capacity that stays",
    ),
    Sign(
        "retired",
        r"ECS is performing maintenance on the underlying infrastructure|Fargate task retirement",
        "AWS retired the machine that it ran on",
        "./alva status: ECS starts another",
    ),
)
"""What ends tasks that did nothing wrong."""

SIGNS: tuple[Sign, ...] = (
    *PLATFORM,
    # The image.
    Sign(
        "unknown-image",
        r"CannotPullContainerError[^\n]*?(?P<image>[\w./-]+@sha256:[0-9a-f]{12})[0-9a-f]*: not found"
        r"|CannotPullContainerError[^\n]*(?:not found|manifest unknown)",
        "its image is not in the repository",
        "./alva deploy builds and pushes it; a digest given with --image must have been pushed",
    ),
    Sign(
        "no-repository",
        r"CannotPullContainerError[^\n]*repository with name '(?P<name>[^']+)' does not exist",
        "the repository {name} does not exist",
        "./alva status shows the registry stack; ./alva deploy makes it",
    ),
    Sign(
        "image-forbidden",
        r"CannotPullContainerError[^\n]*(?:403|AccessDenied|not authorized)|unable to retrieve ecr registry auth"
        r"[^\n]*(?:AccessDenied|not authorized)",
        "its execution role may not pull its image",
        "give the execution role ecr:BatchGetImage and the like on the repository (infrastructure/)",
    ),
    Sign(
        "image-unreachable",
        r"(?:CannotPullContainerError|ResourceInitializationError)[^\n]*(?:i/o timeout|context deadline|dial tcp)",
        "the task cannot reach the registry or Secrets Manager from its subnet",
        "./alva preflight --reachability: the way through the NAT gateway or endpoints is missing",
    ),
    Sign(
        "wrong-architecture",
        r"exec format error|image Manifest does not contain descriptor matching platform",
        "its image is for another CPU architecture than the task's",
        "build it for the task definition's RuntimePlatform",
    ),
    Sign(
        "no-program",
        r"executable file not found|CannotStartContainerError[^\n]*no such file|exec \S+ failed: No such file",
        "its image has no such program as its command",
        "look at ENTRYPOINT and CMD of its Dockerfile",
    ),
    # Secrets.
    Sign(
        "secret-missing",
        r"ResourceNotFoundException[^\n]*secret"
        r"|unable to (?:pull|retrieve) secrets?[^\n]*(?:ResourceNotFoundException|can't find the specified secret)"
        r"|: missing(?: \(used by|$)",
        "a secret that it needs does not exist",
        SECRETS_CHECK,
    ),
    Sign(
        "secret-key-missing",
        r"did not contain json key (?P<key>\S+)",
        "the secret that it needs has no key {key}",
        f"{SECRETS_CHECK}, then ./alva secrets set",
    ),
    Sign(
        "secret-unreadable",
        r"unable to (?:pull|retrieve) secrets?[^\n]*(?:AccessDenied|not authorized)",
        "its execution role may not read a secret that it needs",
        "give the execution role secretsmanager:GetSecretValue on that secret (infrastructure/)",
    ),
    Sign(
        "secret-unset",
        r"alva:unset|: not set(?: \(used by|$)",
        "a secret that it needs has never been set",
        "./alva secrets init makes what can be made; ./alva secrets set NAME",
    ),
    Sign(
        "role",
        r"unable to assume (?:the )?role",
        "ECS may not assume the role that the task definition names",
        "let ecs-tasks.amazonaws.com assume it (infrastructure/)",
    ),
    # What it is given.
    Sign(
        "out-of-memory",
        r"OutOfMemory|out of memory",
        "it used more memory than its task has",
        "raise its memory in infrastructure/lib/config, or find what grows: ./alva logs {subject}",
    ),
    Sign(
        "disk-full",
        r"No space left on device|disk is full",
        "a disk is full",
        "free some space; on AWS raise the task's ephemeral storage or the database's",
    ),
    Sign(
        "connection-budget",
        r"too many clients already|remaining connection slots are reserved|too many connections for role",
        "the database takes no more connections",
        "fewer connections per task, fewer tasks, or a larger instance class: ./alva preflight shows the budget",
    ),
    Sign(
        "database-password",
        r"password authentication failed for user",
        "the database does not take the password that the task was given",
        "a rotated password reaches tasks when they restart; ./alva secrets check",
    ),
    Sign(
        "cache-password",
        r"WRONGPASS|NOAUTH|invalid username-password pair",
        "the cache does not take the token that the task was given",
        "a rotated token reaches tasks when they restart; ./alva secrets check",
    ),
    Sign(
        "schema",
        r"UndefinedTable|UndefinedColumn|relation \"[^\"]+\" does not exist|column [^\n]+ does not exist",
        "the database's schema is not what the code expects",
        "./alva migrate; a revision that takes away belongs into a later release",
    ),
    Sign(
        "lock-timeout",
        r"canceling statement due to lock timeout",
        "a table's lock was not to be had: users' transactions held it",
        "run it again when it is quieter: nothing was changed",
    ),
    Sign(
        "statement-timeout",
        r"canceling statement due to statement timeout",
        "a statement took longer than the migration's time limit",
        "split it into smaller steps",
    ),
    Sign(
        "connection-timeout",
        r"connection timeout expired|connection timed out|\[Errno 110\]|ConnectTimeout",
        "nobody answers where it connects to: no security group or route lets it through, or nothing is there",
        "./alva preflight --reachability shows who reaches whom, ./alva status what runs",
    ),
    Sign(
        "database-down",
        r"(?:connection to server|connection failed: connection to server|could not connect to server)[^\n]*(?:5432|"
        r"postgres|rds)|rds\.amazonaws\.com[^\n]*(?:refused|timed? ?out|not known)|OperationalError[^\n]*(?:refused|"
        r"timed? ?out|closed)|the database (?:is|was) not to be had",
        "the database does not answer it",
        "./alva status: is the database available, and does its security group admit the tasks?",
    ),
    Sign(
        "cache-down",
        r"(?:redis|valkey|cache)[^\n]*(?:Error \d+ connecting|Connection refused|Timeout connecting|ConnectionError)"
        r"|Error \d+ connecting to [^\n]*6379",
        "the cache does not answer it",
        "./alva status: is the cache available, and does its security group admit the tasks?",
    ),
    Sign(
        "certificate",
        r"certificate verify failed|CERTIFICATE_VERIFY_FAILED",
        "it does not trust the certificate of what it connects to",
        "the image's CA bundle must know the endpoint's authority",
    ),
    Sign(
        "unknown-name",
        r"Name or service not known|could not translate host name|getaddrinfo failed",
        "a name that it connects to cannot be resolved",
        "is the other service registered in Cloud Map? ./alva status",
    ),
    Sign(
        "missing-module",
        r"(?P<what>(?:ModuleNotFoundError|ImportError): [^\n\"\\]+)",
        "its code does not load: {what}",
        "a dependency is missing from its pyproject.toml, or a COPY from its Dockerfile",
    ),
    # Health: what the load balancer saw.
    Sign(
        "health-path",
        r"Health checks failed with these codes: \[(?P<code>404|405|30\d)\]",
        "its health check path answers {code}: it is not the path that the service serves",
        "HealthCheckPath and the service's route must agree: ./alva preflight",
    ),
    Sign(
        "health-forbidden",
        r"Health checks failed with these codes: \[(?P<code>40[013])\]",
        "its health check is refused with {code}",
        "the health route must answer without sign-in",
    ),
    Sign(
        "health-error",
        r"Health checks failed with these codes: \[(?P<code>5\d\d)\]",
        "its health check answers {code}",
        LOGS,
    ),
    Sign(
        "health-timeout",
        r"Request timed out|Target\.Timeout",
        "its health check is not answered in time: it hangs, or no security group rule lets the load balancer in",
        "./alva preflight --reachability shows who may reach it",
    ),
    # What verification saw from outside.
    Sign(
        "wrong-answerer",
        r"(?P<what>\S+ answers \S+): HTTP \d+ from (?P<other>[0-9a-f]{12}), not from",
        "another image answers than the one released ({what}): a listener rule is missing, or stands behind another",
        "./alva diff: is the listener's rule as the template has it?",
    ),
    Sign(
        "no-target",
        r"(?P<what>\S+ answers \S+): HTTP 503|no target is healthy",
        "the load balancer has no healthy target for it",
        "./alva status shows its targets",
    ),
    Sign(
        "server-error",
        r"(?P<what>\S+ answers \S+): HTTP (?P<code>5\d\d)",
        "users get HTTP {code} ({what})",
        "./alva logs --since 10m",
    ),
    Sign(
        "no-answer",
        r"(?P<what>\S+ answers \S+): no answer",
        "the load balancer does not answer ({what})",
        "./alva status; does its security group admit port 80 and 443?",
    ),
    # Effects, where no cause was said.
    Sign(
        "alarm",
        r"deployment alarm|alarm detected|was triggered by alarm",
        "an alarm rang while it was rolled out",
        "./alva verify names the alarm; ./alva logs {subject} shows what went wrong",
    ),
    Sign(
        "no-capacity",
        r"was unable to place a task[^\n]*|RESOURCE:(?:ENI|FARGATE)|Capacity is unavailable|not enough free addresses",
        "ECS found no place for its task",
        "are there free addresses in the subnets, and is the quota of Fargate vCPUs enough?",
    ),
    Sign(
        "name-taken",
        r"already exists",
        "something of that name exists already, and belongs to no stack",
        "delete it, or import it into the stack",
    ),
    Sign(
        "in-use",
        r"as it is in use by|cannot be deleted as it is in use",
        "something else still uses what should go",
        "release what uses it first",
    ),
    Sign(
        "forbidden",
        r"AccessDenied|is not authorized to perform",
        "AWS does not permit it to these credentials or that role",
        "the message names the permission that is missing",
    ),
    Sign("quota", r"LimitExceeded|quota", "a quota of the account is used up", "raise it in Service Quotas"),
    Sign("throttled", r"Rate exceeded|Throttling", "AWS throttled the calls", "release again"),
)


def diagnose(failure: Failure) -> Diagnosis:
    """The cause as far as it can be told, with the lines that show it; never nothing."""
    told = (*failure.said, *reversed(failure.logs))
    for sign in SIGNS:
        for text in told:
            found = re.search(sign.pattern, text, re.IGNORECASE)
            if found is not None:
                values = {**found.groupdict(default=""), "subject": failure.subject, "port": failure.port}
                return Diagnosis(
                    subject=failure.subject,
                    kind=sign.kind,
                    cause=sign.cause.format(**values),
                    evidence=_evidence(failure, text),
                    next_step=sign.next_step.format(**values),
                )
    kind, cause, next_step = _from_effects(failure)
    return Diagnosis(
        subject=failure.subject, kind=kind, cause=cause, evidence=_evidence(failure, None), next_step=next_step
    )


def _from_effects(failure: Failure) -> tuple[str, str, str]:
    """What the end of the tasks alone gives away."""
    said = "\n".join(failure.said)
    logs = LOGS.format(subject=failure.subject)
    after = f" {failure.ran_seconds:.0f} s after its start" if failure.ran_seconds is not None else ""
    listening = next((m for line in failure.logs if (m := re.search(r"running on \S+:(\d+)", line))), None)
    if "health checks" in said:
        if listening is not None and failure.port is not None and int(listening[1]) != failure.port:
            cause = f"it listens on port {listening[1]}, its target group asks port {failure.port}"
            return "wrong-port", cause, "Dockerfile, task definition and target group must name one port"
        if listening is None and "exit" not in said:
            grace = f" ({failure.grace_seconds} s)" if failure.grace_seconds is not None else ""
            cause = f"no health check was answered within the grace period{grace}: it starts too slowly, or not at all"
            return "slow-start", cause, f"{logs}; a longer grace period if it only needs longer"
        which = "container" if "container health checks" in said else "load balancer's"
        return "unhealthy", f"it runs but fails its {which} health check", logs
    failed = [(name, code) for name, code in failure.exit_codes if code != 0]
    for name, code in failed:
        if code == 137:
            return (
                "killed",
                f"its container {name} was killed{after}: it did not end when told, or ran out of memory",
                logs,
            )
        if code == 78:
            return "settings", f"its container {name} refused its settings{after}", f"{logs}; then ./alva diff"
        if code == 143:
            return "terminated", f"its container {name} was told to end{after}", "./alva status"
        return "crash", f"its container {name} ended with exit code {code}{after}", logs
    if "time limit" in said or "still running" in said:
        return "hanging", "it did not end within its time limit", logs
    if failure.exit_codes and "Essential container" in said:
        return "exit", f"its container {failure.exit_codes[0][0]} ended by itself{after}: a service must go on", logs
    return "unknown", failure.said[0] if failure.said else "nothing says why", f"./alva status; {logs}"


def _evidence(failure: Failure, telling: str | None) -> tuple[str, ...]:
    """What was said, then the exit codes, then the end of the log; the telling line is always among it."""
    lines = list(dict.fromkeys(failure.said))[:4]
    if lines and failure.count > 1:
        lines[0] += f" ({failure.count} tasks)"
    lines += [f"container {name} ended with exit code {code}" for name, code in failure.exit_codes if code != 0]
    shown = list(failure.logs[-3:])
    if telling in failure.logs and telling not in shown:
        shown = [str(telling), *shown[1:]]
    if telling in failure.said and telling not in list(dict.fromkeys(failure.said))[:4]:
        lines.append(str(telling))
    lines += [f"last log: {line}" for line in shown]
    return tuple(line[:SHOWN_CHARACTERS] for line in dict.fromkeys(lines))
