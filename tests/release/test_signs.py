"""Every failure of the catalogue is recognised from what AWS and the services say of it."""

from __future__ import annotations

import pytest

from alva.release.signs import Failure, diagnose

ELB = "Task failed ELB health checks in (target-group arn:aws:elasticloadbalancing:us-east-1:0:targetgroup/web/1)"
EXITED = "Essential container in task exited"
PULL = "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
IMAGE = "000000000000.dkr.ecr.us-east-1.amazonaws.com/alva-web@sha256:" + "ab" * 32


def unhealthy(reason: str) -> tuple[str, ...]:
    return ELB, f"(service alva-web) (task 1) (port 3000) is unhealthy in (target-group x) due to (reason {reason})."


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        (
            "unknown-image",
            Failure(
                subject="web",
                said=(
                    "CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref "
                    f"{IMAGE}: {IMAGE}: not found",
                ),
            ),
        ),
        (
            "no-repository",
            Failure(
                subject="web",
                said=("CannotPullContainerError: The repository with name 'alva-web' does not exist in the registry",),
            ),
        ),
        ("crash", Failure(subject="web", said=(EXITED,), exit_codes=(("web", 1),), ran_seconds=2)),
        ("crash", Failure(subject="web", said=(EXITED,), exit_codes=(("web", 3),), ran_seconds=70)),
        ("exit", Failure(subject="web", said=(EXITED,), exit_codes=(("web", 0),))),
        ("settings", Failure(subject="web", said=(EXITED,), exit_codes=(("web", 78),))),
        (
            "region-stopped",
            Failure(
                subject="web", said=("The local region was stopped while the task ran",), exit_codes=(("web", 137),)
            ),
        ),
        ("spot-interrupted", Failure(subject="web", said=("Your Spot Task was interrupted.",))),
        (
            "retired",
            Failure(
                subject="web",
                said=("ECS is performing maintenance on the underlying infrastructure hosting the task.",),
                exit_codes=(("web", 143),),
            ),
        ),
        ("killed", Failure(subject="web", said=(EXITED,), exit_codes=(("web", 137),))),
        ("slow-start", Failure(subject="web", said=unhealthy("Health checks failed"), grace_seconds=60, port=3000)),
        ("health-error", Failure(subject="web", said=unhealthy("Health checks failed with these codes: [500]"))),
        ("health-path", Failure(subject="web", said=unhealthy("Health checks failed with these codes: [404]"))),
        ("health-timeout", Failure(subject="web", said=unhealthy("Request timed out"))),
        (
            "wrong-port",
            Failure(
                subject="web",
                said=unhealthy("Health checks failed"),
                logs=('{"message": "Uvicorn running on http://10.0.10.7:3100 (Press CTRL+C to quit)"}',),
                port=3000,
            ),
        ),
        (
            "secret-missing",
            Failure(
                subject="api",
                said=(
                    PULL
                    + "unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch "
                    "secret arn:aws:secretsmanager:us-east-1:0:secret:x from secrets manager: "
                    "ResourceNotFoundException: Secrets Manager can't find the specified secret.",
                ),
            ),
        ),
        (
            "secret-key-missing",
            Failure(
                subject="api",
                said=(PULL + "retrieved secret from Secrets Manager did not contain json key password",),
            ),
        ),
        (
            "secret-unreadable",
            Failure(
                subject="api",
                said=(
                    PULL + "unable to retrieve secret from asm: failed to fetch secret x from secrets manager: "
                    "AccessDeniedException: User: r is not authorized to perform: secretsmanager:GetSecretValue",
                ),
            ),
        ),
        (
            "no-program",
            Failure(
                subject="web",
                said=(EXITED,),
                exit_codes=(("web", 127),),
                logs=("[FATAL tini (7)] exec pyhton failed: No such file or directory",),
            ),
        ),
        ("secret-unset", Failure(subject="release", said=("alva-staging-openai-api-key: not set (used by api)",))),
        (
            "secret-missing",
            Failure(subject="release", said=("alva-staging-cookie-secret: missing (used by auth)",)),
        ),
        (
            "out-of-memory",
            Failure(
                subject="api",
                said=(EXITED, "OutOfMemoryError: Container killed due to memory usage"),
                exit_codes=(("api", 137),),
            ),
        ),
        (
            "connection-budget",
            Failure(
                subject="api",
                said=(EXITED,),
                exit_codes=(("api", 1),),
                logs=("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", "bye"),
            ),
        ),
        (
            "database-down",
            Failure(
                subject="migration",
                said=("container migrations ended with exit code 75",),
                logs=(
                    'connection failed: connection to server at "127.20.20.4", port 5432 failed: Connection refused',
                ),
            ),
        ),
        (
            "connection-timeout",
            Failure(
                subject="migration",
                said=("container migrations ended with exit code 75",),
                logs=("cannot migrate: connection timeout expired",),
            ),
        ),
        (
            "cache-down",
            Failure(
                subject="api",
                said=unhealthy("Health checks failed with these codes: [503]")[:1],
                logs=("redis.exceptions.ConnectionError: Error 111 connecting to cache:6379. Connection refused.",),
            ),
        ),
        ("lock-timeout", Failure(subject="migration", said=("canceling statement due to lock timeout",))),
        ("hanging", Failure(subject="migration", said=("still running after 900 s, stopped",))),
        ("disk-full", Failure(subject="api", said=(EXITED,), logs=("OSError: [Errno 28] No space left on device",))),
        ("missing-module", Failure(subject="api", said=(EXITED,), logs=("ModuleNotFoundError: No module named 'x'",))),
        ("alarm", Failure(subject="web", said=("rolled back because of a deployment alarm: alarm detected.",))),
        ("no-capacity", Failure(subject="web", said=("(service web) was unable to place a task. Reason: ENI.",))),
        (
            "wrong-answerer",
            Failure(subject="release", said=("api answers /api/: HTTP 200 from 0123456789ab, not from ba9876543210",)),
        ),
        ("no-target", Failure(subject="release", said=("web answers /: HTTP 503",))),
        ("server-error", Failure(subject="release", said=("web answers /: HTTP 500",))),
        ("unknown", Failure(subject="release", said=("the moon is full",))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_failure_is_recognised_by_what_is_said_of_it(kind: str, failure: Failure) -> None:
    found = diagnose(failure)
    assert found.kind == kind
    assert found.subject == failure.subject
    assert found.next_step
    assert "{" not in found.cause + found.next_step


def test_cause_stands_before_its_effect_whichever_is_said_first() -> None:
    found = diagnose(
        Failure(
            subject="api",
            said=(EXITED,),
            exit_codes=(("api", 1),),
            logs=("starting", 'FATAL:  password authentication failed for user "alva"', "a", "b", "c", "ended"),
            count=3,
        )
    )
    assert found.kind == "database-password"
    # The line that tells is shown although it is not among the last ones.
    assert found.evidence == (
        f"{EXITED} (3 tasks)",
        "container api ended with exit code 1",
        'last log: FATAL:  password authentication failed for user "alva"',
        "last log: c",
        "last log: ended",
    )


def test_values_from_the_text_are_named_in_the_cause() -> None:
    found = diagnose(Failure(subject="web", said=unhealthy("Health checks failed with these codes: [404]")))
    assert "404" in found.cause
    found = diagnose(Failure(subject="web", said=(EXITED,), exit_codes=(("web", 3),), ran_seconds=71))
    assert found.cause == "its container web ended with exit code 3 71 s after its start"
