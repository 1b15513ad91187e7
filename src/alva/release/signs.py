"""The texts by which the cause of a failure is recognised, each with who says it.

A text counts in the sources that are known to say it, in no other: an application's log may use words of AWS for
matters of its own. In a log only the form counts in which the program that fails writes it, and the advice is to look:
a log alone is no reason to delete, raise or rotate anything.

AWS: "Amazon ECS stopped tasks error messages", "Amazon ECS service event messages", "ELB target health reason codes".
PostgreSQL: https://www.postgresql.org/docs/16/errcodes-appendix.html
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Source(Enum):
    """Who said something about a failure."""

    TASK = "task"
    """ECS: why a task or a container of it stopped."""
    SERVICE = "service"
    """ECS: an event of a service, with the load balancer's reasons in it."""
    STACK = "stack"
    """CloudFormation: an event of a stack."""
    RELEASE = "release"
    """This tool: an error of its own, which may quote AWS's API, or a check that failed."""
    LOG = "log"
    """A container's log: anything may stand there."""


ECS = frozenset({Source.TASK, Source.SERVICE})
AWS = ECS | {Source.STACK}
RELEASE = frozenset({Source.RELEASE})
LOG = frozenset({Source.LOG})


@dataclass(frozen=True)
class Sign:
    """A text that gives a cause away. `cause` and `next_step` may use the pattern's groups and `subject`, `port`."""

    kind: str
    sources: frozenset[Source]
    """Who says it."""
    pattern: str
    """A regular expression, whatever the case."""
    cause: str
    next_step: str


SECRETS_CHECK = "./alva secrets check"
LOGS = "./alva logs {subject} --since 1h"
ROTATE = "./alva secrets rotate database gives the database, the cache and the tasks one new password"
ASK_INSIDE = "./alva verify asks from inside with the same secret, and names what heals it"
STATUS_OF = "./alva status: is the {0} available, and does its security group admit the tasks?"

PLATFORM = (
    # Nothing that the service did: where it ran went away. Stopped codes TerminationNotice and SpotInterruption.
    Sign(
        "region-stopped",
        frozenset({Source.TASK}),
        r"The local region was stopped while the task ran",
        "its tasks ended with the local region, which was stopped",
        "./alva status: those that take their place start with the region",
    ),
    Sign(
        "spot-interrupted",
        frozenset({Source.TASK}),
        r"Your Spot Task was interrupted",
        "AWS took its Spot capacity back",
        "./alva status: ECS starts another; tasks.spot = False keeps to capacity that stays",
    ),
    Sign(
        "retired",
        ECS,
        r"ECS is performing maintenance on the underlying infrastructure|Fargate task retirement",
        "AWS retired the machine that it ran on",
        "./alva status: ECS starts another",
    ),
)
"""What ends tasks that did nothing wrong."""

IMAGE = (
    Sign(
        "unknown-image",
        ECS,
        r"CannotPullContainerError[^\n]*?(?P<image>[\w./-]+@sha256:[0-9a-f]{12})[0-9a-f]*: not found"
        r"|CannotPullContainerError[^\n]*(?:not found|manifest unknown)",
        "its image is not in the repository",
        "./alva deploy builds and pushes it; a digest given with --image must have been pushed",
    ),
    Sign(
        "no-repository",
        ECS,
        r"CannotPullContainerError[^\n]*repository with name '(?P<name>[^']+)' does not exist",
        "the repository {name} does not exist",
        "./alva status shows the registry stack; ./alva deploy makes it",
    ),
    Sign(
        "image-forbidden",
        ECS,
        r"CannotPullContainerError[^\n]*(?:403|AccessDenied|not authorized)|unable to retrieve ecr registry auth"
        r"[^\n]*(?:AccessDenied|not authorized)",
        "its execution role may not pull its image",
        "give the execution role ecr:BatchGetImage and the like on the repository (infrastructure/)",
    ),
    Sign(
        "image-unreachable",
        ECS,
        r"(?:CannotPullContainerError|ResourceInitializationError)[^\n]*(?:i/o timeout|context deadline|dial tcp)",
        "the task cannot reach the registry or Secrets Manager from its subnet",
        "./alva preflight --reachability: the way through the NAT gateway or endpoints is missing",
    ),
    Sign(
        "wrong-architecture",
        ECS,
        r"exec format error|image Manifest does not contain descriptor matching platform",
        "its image is for another CPU architecture than the task's",
        "build it for the task definition's RuntimePlatform",
    ),
    Sign(
        "wrong-architecture",
        LOG,
        r"^(?:standard_init_linux\.go:\d+: )?exec (?:/\S+|user process caused): exec format error",
        "its image is for another CPU architecture than the task's",
        "./alva preflight compares the image's architecture with the task definition's",
    ),
    Sign(
        "no-program",
        ECS,
        r"executable file not found|CannotStartContainerError[^\n]*no such file",
        "its image has no such program as its command",
        "look at ENTRYPOINT and CMD of its Dockerfile",
    ),
    Sign(
        "no-program",
        LOG,
        r"^\[FATAL tini \(\d+\)\] exec \S+ failed: No such file|^exec: [^\n]+: executable file not found",
        "its image has no such program as its command",
        "look at ENTRYPOINT and CMD of its Dockerfile",
    ),
)

LOG_GROUP = (
    Sign(
        "log-group-missing",
        ECS,
        r"The specified log group does not exist",
        "its log group does not exist: somebody deleted it",
        "./alva deploy makes it again",
    ),
)

SECRETS = (
    Sign(
        "secret-missing",
        ECS,
        r"ResourceNotFoundException[^\n]*secret"
        r"|unable to (?:pull|retrieve) secrets?[^\n]*(?:ResourceNotFoundException|can't find the specified secret)",
        "a secret that it needs does not exist",
        SECRETS_CHECK,
    ),
    Sign(
        "secret-missing",
        RELEASE,
        r": missing(?: \(used by|$)",
        "a secret that it needs does not exist",
        SECRETS_CHECK,
    ),
    Sign(
        "secret-key-missing",
        ECS,
        r"did not contain json key (?P<key>\S+)",
        "the secret that it needs has no key {key}",
        f"{SECRETS_CHECK}, then ./alva secrets set",
    ),
    Sign(
        "secret-unreadable",
        ECS,
        r"unable to (?:pull|retrieve) secrets?[^\n]*(?:AccessDenied|not authorized)",
        "its execution role may not read a secret that it needs",
        "give the execution role secretsmanager:GetSecretValue on that secret (infrastructure/)",
    ),
    Sign(
        "secret-unset",
        RELEASE,
        r"alva:unset|: not set(?: \(used by|$)",
        "a secret that it needs has never been set",
        "./alva secrets init makes what can be made; ./alva secrets set NAME",
    ),
    Sign(
        "secret-unset",
        LOG,
        r"\balva:unset\b",
        "a secret that it needs has never been set",
        SECRETS_CHECK,
    ),
    Sign(
        "role",
        AWS,
        r"unable to assume (?:the )?role",
        "ECS may not assume the role that the task definition names",
        "let ecs-tasks.amazonaws.com assume it (infrastructure/)",
    ),
)

RESOURCES = (
    Sign(
        "out-of-memory",
        frozenset({Source.TASK}),
        r"OutOfMemory|out of memory",
        "it used more memory than its task has",
        "raise its memory in infrastructure/lib/config, or find what grows: ./alva logs {subject}",
    ),
    Sign(
        "disk-full",
        ECS,
        r"No space left on device",
        "the task's disk is full",
        LOGS,
    ),
    Sign(
        "disk-full",
        LOG,
        r"\[Errno 28\] No space left|ENOSPC: no space left|could not (?:write|extend)[^\n]*No space left on device",
        "a disk is full",
        "find which disk it is, the task's or the database's: ./alva logs {subject} --since 1h",
    ),
)

# How PostgreSQL's clients begin a line: libpq and psycopg with the severity, node-postgres with "error:".
_POSTGRES = r"(?:(?:FATAL|ERROR):\s+|\berror: |psycopg\.errors\.\w+[):]+ |^cannot migrate: )"
_CONNECTIONS = (
    r"(?:sorry, too many clients already|remaining connection slots are reserved|too many connections for role)"
)
_PASSWORD = r"password authentication failed for user"  # noqa: S105  (words of PostgreSQL)
_CACHE_PASSWORD = r"WRONGPASS invalid username|NOAUTH Authentication required|AuthenticationError: invalid username"  # noqa: S105

DATA = (
    Sign(
        "connection-budget",
        RELEASE,
        _POSTGRES + _CONNECTIONS,
        "the database takes no more connections",
        "fewer connections per task, fewer tasks, or a larger instance class: ./alva preflight counts them",
    ),
    Sign(
        "connection-budget",
        LOG,
        _POSTGRES + _CONNECTIONS,
        "it was refused a connection: a database takes no more of them",
        "./alva preflight counts the connections that the services may open, ./alva open shows those in use",
    ),
    Sign(
        "database-password",
        RELEASE,
        _PASSWORD,
        "the database does not take the password that the task was given",
        ROTATE,
    ),
    Sign(
        "database-password",
        LOG,
        _POSTGRES + _PASSWORD,
        "the database does not take the password that the task was given",
        ASK_INSIDE,
    ),
    Sign(
        "cache-password",
        RELEASE,
        _CACHE_PASSWORD,
        "the cache does not take the token that the task was given",
        ROTATE,
    ),
    Sign(
        "cache-password",
        LOG,
        _CACHE_PASSWORD,
        "the cache does not take the token that the task was given",
        ASK_INSIDE,
    ),
    Sign(
        "schema",
        LOG,
        r"\bpsycopg\.errors\.Undefined(?:Table|Column)\b"
        r"|(?:ERROR:\s+|\berror: )(?:relation|column) [^\n]+ does not exist",
        "the database's schema is not what the code expects",
        "./alva diff shows the migrations that a release would run",
    ),
    Sign(
        "lock-timeout",
        LOG,
        _POSTGRES + r"canceling statement due to lock timeout",
        "it did not get a table's lock in time: a transaction held it",
        "./alva logs {subject} --since 1h; run it again when there is less traffic",
    ),
    Sign(
        "statement-timeout",
        LOG,
        _POSTGRES + r"canceling statement due to statement timeout",
        "a statement took longer than its time limit",
        "./alva logs {subject} --since 1h; a migration can be split into smaller steps",
    ),
    Sign(
        "connection-timeout",
        LOG,
        r"connection timeout expired|port \d+ failed: \w+ timed out|\[Errno 110\]|\bConnectTimeout\b|connect ETIMEDOUT",
        "nobody answers where it connects to: no security group or route lets it through, or nothing is there",
        "./alva preflight --reachability shows who reaches whom, ./alva status what runs",
    ),
    Sign(
        "database-down",
        LOG,
        r"connection to server (?:at|on) [^\n]*(?:failed|refused)|could not connect to server"
        r"|ECONNREFUSED \S+:5432|OperationalError[^\n]*(?:refused|timed? ?out|closed)",
        "the database does not answer it",
        STATUS_OF.format("database"),
    ),
    Sign(
        "database-down",
        RELEASE,
        r"^inside: database: [^\n]*(?:refused|timed? ?out|timeout expired|not known|closed)",
        "the database does not answer a task",
        STATUS_OF.format("database"),
    ),
    Sign(
        "cache-down",
        RELEASE,
        r"^inside: queue: [^\n]*(?:refused|timed? ?out|timeout|not known|closed)",
        "the cache does not answer a task",
        STATUS_OF.format("cache"),
    ),
    Sign(
        "cache-down",
        LOG,
        r"(?:redis|valkey)\.exceptions\.(?:ConnectionError|TimeoutError)|Error \d+ connecting to [^\n]*6379"
        r"|ECONNREFUSED \S+:6379",
        "the cache does not answer it",
        STATUS_OF.format("cache"),
    ),
    Sign(
        "certificate",
        LOG,
        r"certificate verify failed|CERTIFICATE_VERIFY_FAILED|UNABLE_TO_VERIFY_LEAF_SIGNATURE"
        r"|unable to get local issuer certificate",
        "it does not trust the certificate of what it connects to",
        "the image's CA bundle must know the endpoint's authority",
    ),
    Sign(
        "unknown-name",
        LOG,
        r"Name or service not known|could not translate host name|getaddrinfo (?:failed|ENOTFOUND)",
        "a name that it connects to cannot be resolved",
        "is the other service registered in Cloud Map? ./alva status",
    ),
    Sign(
        "missing-module",
        LOG,
        r"(?P<what>(?:ModuleNotFoundError|ImportError): [^\n\"\\]+|Cannot find module '[^'\n]+')",
        "its code does not load: {what}",
        "a dependency is missing from its image, or a COPY from its Dockerfile",
    ),
)

HEALTH = (
    # What the load balancer saw; a verification quotes its targets' reasons.
    Sign(
        "health-path",
        ECS | RELEASE,
        r"(?:Health checks failed with these codes: \[|^inside: \S+ by name: [^\n]*HTTP )(?P<code>404|405|30\d)\b",
        "its health check path answers {code}: it is not the path that the service serves",
        "HealthCheckPath and the service's route must agree: ./alva preflight",
    ),
    Sign(
        "health-forbidden",
        ECS | RELEASE,
        r"Health checks failed with these codes: \[(?P<code>40[013])\]",
        "its health check is refused with {code}",
        "the health route must answer without sign-in",
    ),
    Sign(
        "health-error",
        ECS | RELEASE,
        r"Health checks failed with these codes: \[(?P<code>5\d\d)\]",
        "its health check answers {code}",
        LOGS,
    ),
    Sign(
        "health-timeout",
        ECS | RELEASE,
        r"Request timed out|Target\.Timeout",
        "its health check is not answered in time: it hangs, or no security group rule lets the load balancer in",
        "./alva preflight --reachability shows who may reach it",
    ),
)

VERIFICATION = (
    Sign(
        "drift",
        RELEASE,
        r"(?P<what>\S+) runs: \S+ is deployed, \S+ should be",
        "{what} runs another image than its stack says: somebody changed it outside CloudFormation",
        "./alva deploy puts it back",
    ),
    Sign(
        "wrong-answerer",
        RELEASE,
        r"(?P<what>\S+ answers \S+): HTTP \d+ from (?P<other>[0-9a-f]{12}), not from",
        "another image answers than the one released ({what}): a listener rule is missing, or stands behind another",
        "./alva diff: is the listener's rule as the template has it?",
    ),
    Sign(
        "no-target",
        RELEASE,
        r"(?P<what>\S+ answers \S+): HTTP 503|no target is healthy",
        "the load balancer has no healthy target for it",
        "./alva status shows its targets",
    ),
    Sign(
        "server-error",
        RELEASE,
        r"(?P<what>\S+ answers \S+): HTTP (?P<code>5\d\d)",
        "users get HTTP {code} ({what})",
        "./alva logs --since 10m",
    ),
    Sign(
        "client-error",
        RELEASE,
        r"(?P<what>\S+ answers \S+): HTTP (?P<code>4\d\d)",
        "users get HTTP {code} ({what}): the page is not there, or is not for everybody",
        "does the released version serve that path to people who are not signed in?",
    ),
    Sign(
        "dependency",
        RELEASE,
        r"^inside: (?P<what>\S+) by name: [^\n]*HTTP 5\d\d: (?P<states>[^\n]+)",
        "{what} runs, and cannot use what it depends on: {states}",
        "./alva diff: are its addresses and secrets as before? ./alva preflight --reachability shows whom it reaches",
    ),
    Sign(
        "no-answer",
        RELEASE,
        r"(?P<what>\S+ answers \S+): no answer",
        "the load balancer does not answer ({what})",
        "./alva status; does its security group admit port 80 and 443?",
    ),
)

EFFECTS = (
    # Where no cause was said.
    Sign(
        "alarm",
        AWS | RELEASE,
        r"deployment alarm|alarm detected|was triggered by alarm",
        "an alarm rang while it was rolled out",
        "./alva verify names the alarm; ./alva logs {subject} shows what went wrong",
    ),
    Sign(
        "no-capacity",
        AWS,
        r"was unable to place a task[^\n]*|RESOURCE:(?:ENI|FARGATE)|Capacity is unavailable|not enough free addresses",
        "ECS found no place for its task",
        "are there free addresses in the subnets, and is the quota of Fargate vCPUs enough?",
    ),
    Sign(
        "name-taken",
        frozenset({Source.STACK}),
        r"already exists",
        "something of that name exists already, and belongs to no stack",
        "find out whose it is; then import it into the stack, or give the stack's another name",
    ),
    Sign(
        "in-use",
        frozenset({Source.STACK}),
        r"as it is in use by|cannot be deleted as it is in use",
        "something else still uses what should go",
        "release what uses it first",
    ),
    Sign(
        "forbidden",
        AWS | RELEASE,
        r"AccessDenied|is not authorized to perform",
        "AWS does not permit it to these credentials or that role",
        "the message names the permission that is missing",
    ),
    Sign("quota", AWS, r"LimitExceeded|quota", "a quota of the account is used up", "raise it in Service Quotas"),
    Sign(
        "quota",
        RELEASE,
        r"\b\w*(?:LimitExceeded|QuotaExceeded)(?:Exception|Fault)?\b",
        "a quota of the account is used up",
        "raise it in Service Quotas",
    ),
    Sign("throttled", AWS | RELEASE, r"Rate exceeded|Throttling", "AWS throttled the calls", "release again"),
)

SIGNS = (*PLATFORM, *IMAGE, *LOG_GROUP, *SECRETS, *RESOURCES, *DATA, *HEALTH, *VERIFICATION, *EFFECTS)
"""The first that is found decides: those that name a cause stand before those that only describe its effect ("Essential
container in task exited")."""
