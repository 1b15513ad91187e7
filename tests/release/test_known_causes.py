"""Each cause is recognised by the origin and format of its text only."""

from __future__ import annotations

import re

import pytest

from alva.release.causes import KNOWN_CAUSES, Source
from alva.release.diagnosis import Failure, ReportedText, diagnose, reported

TASK, SERVICE, STACK, RELEASE, LOG = Source

ELB = "Task failed ELB health checks in (target-group arn:aws:elasticloadbalancing:us-east-1:0:targetgroup/web/1)"
EXITED = "Essential container in task exited"
PULL = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
ASM = "unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch secret x: "
IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/alva-web@sha256:" + "ab" * 32
UNHEALTHY = "(service alva-web) (task 1) (port 3000) is unhealthy in (target-group x) due to (reason {})."
CODES = UNHEALTHY.format("Health checks failed with these codes: [{}]")
LAUNCH = "(service alva-web) failed to launch a task with (error {})."
HANDLER = "Service (AWS::ECS::Service): Resource handler returned message: "

EXAMPLES: dict[tuple[str, Source], str] = {
    ("region-stopped", TASK): "The local region was stopped while the task ran",
    ("spot-interrupted", TASK): "Your Spot Task was interrupted.",
    ("retired", TASK): "ECS is performing maintenance on the underlying infrastructure hosting the task.",
    ("retired", SERVICE): "(service alva-web) has stopped 1 running tasks: Fargate task retirement",
    ("unknown-image", TASK): f"CannotPullContainerError: failed to resolve ref {IMAGE}: {IMAGE}: not found",
    ("unknown-image", SERVICE): LAUNCH.format(f"CannotPullContainerError: {IMAGE}: manifest unknown"),
    ("no-repository", TASK): "CannotPullContainerError: The repository with name 'alva-web' does not exist in the x",
    ("no-repository", SERVICE): LAUNCH.format("CannotPullContainerError: repository with name 'w' does not exist"),
    ("image-forbidden", TASK): "CannotPullContainerError: pull access denied: 403 Forbidden",
    ("image-forbidden", SERVICE): LAUNCH.format("unable to retrieve ecr registry auth: AccessDeniedException"),
    ("image-unreachable", TASK): PULL + "dial tcp 1.2.3.4:443: i/o timeout",
    ("image-unreachable", SERVICE): LAUNCH.format("CannotPullContainerError: context deadline exceeded"),
    (
        "wrong-architecture",
        TASK,
    ): "CannotPullContainerError: image Manifest does not contain descriptor matching platform",
    ("wrong-architecture", SERVICE): LAUNCH.format("image Manifest does not contain descriptor matching platform"),
    ("wrong-architecture", LOG): "exec /usr/local/bin/node: exec format error",
    ("no-program", TASK): 'CannotStartContainerError: exec: "pyhton": executable file not found in $PATH',
    ("no-program", SERVICE): LAUNCH.format("CannotStartContainerError: open /x: no such file or directory"),
    ("no-program", LOG): "[FATAL tini (7)] exec pyhton failed: No such file or directory",
    ("log-group-missing", TASK): "ResourceInitializationError: failed to validate logger args: create stream has been "
    "retried 1 times: failed to create Cloudwatch log stream: ResourceNotFoundException: The specified log group does "
    "not exist. : exit status 1",
    ("log-group-missing", SERVICE): LAUNCH.format("ResourceNotFoundException: The specified log group does not exist."),
    ("secret-missing", TASK): PULL + ASM + "ResourceNotFoundException: can't find the specified secret.",
    ("secret-missing", SERVICE): LAUNCH.format(ASM + "ResourceNotFoundException: can't find the specified secret."),
    ("secret-missing", RELEASE): "alva-staging-cookie-secret: missing (used by auth)",
    ("secret-key-missing", TASK): PULL + "retrieved secret from Secrets Manager did not contain json key password",
    ("secret-key-missing", SERVICE): LAUNCH.format("did not contain json key password"),
    ("secret-unreadable", TASK): PULL + ASM + "AccessDeniedException: User: r is not authorized to perform: x",
    ("secret-unreadable", SERVICE): LAUNCH.format(ASM + "AccessDeniedException: not authorized"),
    ("secret-unset", RELEASE): "alva-staging-openai-api-key: not set (used by api)",
    ("secret-unset", LOG): "cannot start api: wrong settings: OPENAI_API_KEY is alva:unset",
    ("role", TASK): "ECS was unable to assume the role 'arn:aws:iam::0:role/x'",
    (
        "role",
        SERVICE,
    ): "(service alva-web) failed to launch a task: ECS was unable to assume role arn:aws:iam::0:role/x",
    ("role", STACK): HANDLER + "ECS was unable to assume the role arn:aws:iam::0:role/x",
    ("out-of-memory", TASK): "OutOfMemoryError: Container killed due to memory usage",
    ("disk-full", TASK): "CannotPullContainerError: write /var/lib/x: no space left on device",
    ("disk-full", SERVICE): LAUNCH.format("CannotCreateContainerError: no space left on device"),
    ("disk-full", LOG): "OSError: [Errno 28] No space left on device",
    ("connection-budget", RELEASE): "inside: database: connection failed: FATAL:  sorry, too many clients already",
    (
        "connection-budget",
        LOG,
    ): "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
    ("database-password", RELEASE): 'inside: database: FATAL:  password authentication failed for user "alva"',
    ("database-password", LOG): 'error: password authentication failed for user "alva"',
    (
        "cache-password",
        RELEASE,
    ): "inside: queue: AuthenticationError: invalid username-password pair or user is disabled.",
    ("cache-password", LOG): "ReplyError: WRONGPASS invalid username-password pair or user is disabled.",
    ("schema", LOG): 'sqlalchemy.exc.ProgrammingError: (psycopg.errors.UndefinedTable) relation "plans" does not exist',
    ("lock-timeout", LOG): "cannot migrate: canceling statement due to lock timeout",
    ("statement-timeout", LOG): "ERROR:  canceling statement due to statement timeout",
    ("connection-timeout", LOG): "cannot migrate: connection timeout expired",
    (
        "database-down",
        LOG,
    ): 'connection failed: connection to server at "10.0.0.4", port 5432 failed: Connection refused',
    ("database-down", RELEASE): "inside: database: OperationalError: connection failed: Connection refused",
    ("cache-down", RELEASE): "inside: queue: TimeoutError: Timeout connecting to server",
    ("cache-down", LOG): "redis.exceptions.ConnectionError: Error 111 connecting to cache:6379. Connection refused.",
    ("certificate", LOG): "ssl.SSLCertVerificationError: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed",
    ("unknown-name", LOG): "Error: getaddrinfo ENOTFOUND api.alva-staging.local",
    ("missing-module", LOG): "ModuleNotFoundError: No module named 'x'",
    ("health-path", TASK): "Task failed ELB health checks: Health checks failed with these codes: [404]",
    ("health-path", RELEASE): "web has healthy targets: unhealthy (Health checks failed with these codes: [404])",
    ("health-path", SERVICE): CODES.format(404),
    ("health-forbidden", TASK): "Task failed ELB health checks: Health checks failed with these codes: [403]",
    ("health-forbidden", RELEASE): "web has healthy targets: unhealthy (Health checks failed with these codes: [403])",
    ("health-forbidden", SERVICE): CODES.format(401),
    ("health-error", TASK): "Task failed ELB health checks: Health checks failed with these codes: [500]",
    ("health-error", RELEASE): "web has healthy targets: unhealthy (Health checks failed with these codes: [500])",
    ("health-error", SERVICE): CODES.format(500),
    ("health-timeout", TASK): "Task failed ELB health checks: Request timed out",
    ("health-timeout", RELEASE): "web has healthy targets: Target.Timeout Request timed out",
    ("health-timeout", SERVICE): UNHEALTHY.format("Request timed out"),
    ("drift", RELEASE): "web runs: 0123456789ab is deployed, ba9876543210 should be",
    ("wrong-answerer", RELEASE): "api answers /api/: HTTP 200 from 0123456789ab, not from ba9876543210",
    ("no-target", RELEASE): "web answers /: HTTP 503",
    ("server-error", RELEASE): "web answers /: HTTP 500",
    ("client-error", RELEASE): "web answers /: HTTP 404",
    ("dependency", RELEASE): "inside: auth by name: RuntimeError: HTTP 503: database ok, cache TimeoutError",
    ("no-answer", RELEASE): "web answers /: no answer",
    ("alarm", TASK): "Service deployment rolled back because of a deployment alarm",
    ("alarm", SERVICE): "(service alva-web) rolled back because of a deployment alarm: alarm detected.",
    ("alarm", STACK): HANDLER + "ECS Deployment was triggered by alarm",
    ("alarm", RELEASE): "rolled back because of a deployment alarm: alarm detected.",
    ("no-capacity", TASK): "RESOURCE:ENI",
    ("no-capacity", SERVICE): "(service alva-web) was unable to place a task. Reason: Capacity is unavailable.",
    ("no-capacity", STACK): HANDLER + "Capacity is unavailable at this time",
    ("name-taken", STACK): "Group (AWS::Logs::LogGroup): Resource of type 'AWS::Logs::LogGroup' already exists",
    ("in-use", STACK): "delete: Export alva:Vpc cannot be deleted as it is in use by alva-ecs",
    ("forbidden", TASK): "CannotStartContainerError: AccessDeniedException: logs:CreateLogStream",
    ("forbidden", SERVICE): "(service alva-web) is not authorized to perform: elasticloadbalancing:RegisterTargets",
    ("forbidden", STACK): HANDLER + "User: x is not authorized to perform: ecs:CreateService",
    ("forbidden", RELEASE): "An error occurred (AccessDeniedException) when calling the RunTask operation",
    ("quota", TASK): "You've reached the quota on the number of tasks",
    ("quota", SERVICE): "(service alva-web) was unable to start a task: vCPU quota",
    ("quota", STACK): HANDLER + "LimitExceeded: the maximum number of VPCs has been reached",
    ("quota", RELEASE): "An error occurred (LimitExceededException) when calling the CreateService operation",
    ("throttled", TASK): "ResourceInitializationError: ThrottlingException: Rate exceeded",
    ("throttled", SERVICE): "(service alva-web) operations are being throttled on elb. Rate exceeded",
    ("throttled", STACK): HANDLER + "Rate exceeded (Service: Ecs)",
    ("throttled", RELEASE): "An error occurred (ThrottlingException) when calling the DescribeServices operation",
}
"""(kind, origin) -> an example in the words of AWS, PostgreSQL, Valkey, Node, Python or this tool."""

PROSE = {
    "wrong-architecture": "upload 7: exec format error in the customer's file",
    "no-program": "a customer asked: exec pyhton failed: No such file or directory?",
    "secret-unset": "the text alva:unsettled is in a plan",
    "disk-full": "customer's ticket: no space left on device",
    "connection-budget": "mail to support: too many clients already, remaining connection slots are reserved",
    "database-password": "password authentication failed for user 7 of the partner's API",
    "cache-password": "NOAUTH: this route needs no sign-in",
    "schema": "plan 7: column B does not exist in the customer's sheet",
    "lock-timeout": "job 7: canceling statement due to lock timeout of the partner",
    "statement-timeout": "report 7: canceling statement due to statement timeout of the partner",
    "connection-timeout": "the customer's connection timed out",
    "database-down": "the partner's server refused the connection",
    "cache-down": "cache miss, then Connection refused by the customer's site",
    "certificate": "the customer's certificate is not verified",
    "unknown-name": "name of the service is not known to the customer",
    "missing-module": "a module is missing from the plan",
}
"""Kind -> the words of its pattern in an application's log line that is about something else."""

DEED = re.compile(r"\b(?:delete|remove|raise|larger|fewer|increase|rotate|import it|restart|secrets set|allow)\b")
"""Words that occur in advice to change something."""


def recognised(source: Source, text: str) -> str:
    return diagnose(Failure(subject="web", said=(ReportedText(source, text),), exit_codes=(("web", 1),))).kind


def test_missing_health_path_is_recognised_by_the_dependency_checks_too() -> None:
    assert recognised(RELEASE, "inside: web by name: RuntimeError: HTTP 404") == "health-path"


def test_every_known_cause_has_an_example_for_each_origin() -> None:
    pairs = [(known.kind, source) for known in KNOWN_CAUSES for source in known.sources]
    assert len(pairs) == len(set(pairs)), "two entries of one kind in one source"
    assert set(EXAMPLES) == set(pairs)
    assert set(PROSE) == {kind for kind, source in pairs if source is LOG}


@pytest.mark.parametrize(("kind", "source"), EXAMPLES, ids=lambda value: getattr(value, "value", value))
def test_cause_is_recognised_in_its_own_origin(kind: str, source: Source) -> None:
    found = diagnose(Failure(subject="web", said=(ReportedText(source, EXAMPLES[kind, source]),), port=3000))
    assert found.kind == kind
    assert found.subject == "web"
    assert found.next_step
    assert "{" not in found.cause + found.next_step


@pytest.mark.parametrize(("kind", "source"), EXAMPLES, ids=lambda value: getattr(value, "value", value))
def test_same_words_from_another_origin_are_no_cause(kind: str, source: Source) -> None:
    others = [other for other in Source if (kind, other) not in EXAMPLES]
    assert [other for other in others if recognised(other, EXAMPLES[kind, source]) == kind] == []


@pytest.mark.parametrize("kind", PROSE)
def test_similar_words_in_a_log_are_no_cause(kind: str) -> None:
    assert recognised(LOG, PROSE[kind]) == "crash"


def test_next_step_for_a_log_line_changes_nothing() -> None:
    assert [known.next_step for known in KNOWN_CAUSES if LOG in known.sources and DEED.search(known.next_step)] == []
    assert all(known.sources == {LOG} for known in KNOWN_CAUSES if LOG in known.sources)


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("crash", Failure(subject="web", said=reported(TASK, [EXITED]), exit_codes=(("web", 1),), ran_seconds=2)),
        ("exit", Failure(subject="web", said=reported(TASK, [EXITED]), exit_codes=(("web", 0),))),
        ("settings", Failure(subject="web", said=reported(TASK, [EXITED]), exit_codes=(("web", 78),))),
        ("killed", Failure(subject="web", said=reported(TASK, [EXITED]), exit_codes=(("web", 137),))),
        ("terminated", Failure(subject="web", said=reported(TASK, [EXITED]), exit_codes=(("web", 143),))),
        (
            "slow-start",
            Failure(subject="web", said=reported(TASK, [ELB]), grace_seconds=60, port=3000),
        ),
        (
            "wrong-port",
            Failure(
                subject="web",
                said=reported(TASK, [ELB]),
                logs=('{"message": "Uvicorn running on http://10.0.10.7:3100 (Press CTRL+C to quit)"}',),
                port=3000,
            ),
        ),
        ("hanging", Failure(subject="migration", said=reported(RELEASE, ["still running after 900 s, stopped"]))),
        ("unknown", Failure(subject="release", said=reported(RELEASE, ["the moon is full"]))),
        ("unknown", Failure(subject="release", said=reported(LOG, ["health checks and time limit and still running"]))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_failure_without_a_known_cause_shows_the_last_lines(kind: str, failure: Failure) -> None:
    found = diagnose(failure)
    assert found.kind == kind
    assert found.next_step
    assert "{" not in found.cause + found.next_step


def test_message_of_an_error_is_shown_and_not_the_end_of_its_stack_trace() -> None:
    logs = (
        'throw new Error("broken on purpose");',
        "      ^",
        "",
        "Error: broken on purpose",
        "    at file:///app/dist/server.js:24:7",
        "    at async node:internal/modules/esm/loader:643:26",
        "",
        "Node.js v24.19.0",
    )
    found = diagnose(Failure(subject="api", said=reported(TASK, [EXITED]), exit_codes=(("api", 1),), logs=logs))
    assert found.evidence[-2:] == (
        'last log: throw new Error("broken on purpose");',
        "last log: Error: broken on purpose",
    )


def test_cause_precedes_its_effect() -> None:
    found = diagnose(
        Failure(
            subject="api",
            said=reported(TASK, [EXITED]),
            exit_codes=(("api", 1),),
            logs=("starting", 'FATAL:  password authentication failed for user "alva"', "a", "b", "c", "ended"),
            count=3,
        )
    )
    assert found.kind == "database-password"
    # The line that identifies the cause is shown although it is not among the last ones.
    assert found.evidence == (
        f"{EXITED} (3 tasks)",
        "container api ended with exit code 1",
        'last log: FATAL:  password authentication failed for user "alva"',
        "last log: c",
        "last log: ended",
    )


def test_values_from_the_text_are_named_in_the_cause() -> None:
    found = diagnose(Failure(subject="web", said=reported(SERVICE, [CODES.format(404)])))
    assert "404" in found.cause
    found = diagnose(Failure(subject="web", said=reported(TASK, [EXITED]), exit_codes=(("web", 3),), ran_seconds=71))
    assert found.cause == "its container web ended with exit code 3, 71 s after its start"


@pytest.mark.parametrize(
    "line",
    [
        'psycopg.errors.DuplicateTable: relation "plans" already exists',
        "psycopg.errors.UniqueViolation: duplicate key: Key (email)=(a@b.example) already exists.",
        "openai.RateLimitError: You exceeded your current quota, please check your plan and billing details",
        "stripe: LimitExceeded",
        "user 7: AccessDenied to plan 9",
        "cannot be deleted as it is in use by plan 9",
        "Rate exceeded for customer 7",
        "a customer asked: what is OutOfMemory?",
        "HTTP client: CannotPullContainerError: x: not found",
        "web answers /: HTTP 503",
        "deployment alarm",
    ],
)
@pytest.mark.parametrize("as_evidence", ["", "last log: ", "api: last log: "])
def test_words_of_aws_in_an_applications_log_are_no_cause(line: str, as_evidence: str) -> None:
    told = reported(TASK, [EXITED, as_evidence + line] if as_evidence else [EXITED])
    found = diagnose(Failure(subject="api", said=told, exit_codes=(("api", 1),), logs=() if as_evidence else (line,)))
    assert found.kind == "crash"
    assert not any(word in found.next_step for word in ("delete", "raise", "quota"))
    assert any(line in evidence for evidence in found.evidence)
