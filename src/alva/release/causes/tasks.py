"""Causes in tasks: machine, image, log group, secrets, memory and disk."""

from __future__ import annotations

from alva.release.causes.known_cause import AWS, ECS, LOG, LOGS, RELEASE, SECRETS_CHECK, KnownCause, Source

PLATFORM = (
    # The machine of the task went away. Stopped codes TerminationNotice and SpotInterruption.
    KnownCause(
        "region-stopped",
        frozenset({Source.TASK}),
        r"The local region was stopped while the task ran",
        "the local region was stopped, and its tasks with it",
        "./alva status: new tasks start with the region",
    ),
    KnownCause(
        "spot-interrupted",
        frozenset({Source.TASK}),
        r"Your Spot Task was interrupted",
        "AWS took its Spot capacity back",
        "./alva status: ECS starts another; tasks.spot = False uses on-demand capacity only",
    ),
    KnownCause(
        "retired",
        ECS,
        r"ECS is performing maintenance on the underlying infrastructure|Fargate task retirement",
        "AWS retired the machine that it ran on",
        "./alva status: ECS starts another",
    ),
)
"""Causes outside the task."""

IMAGE = (
    KnownCause(
        "unknown-image",
        ECS,
        r"CannotPullContainerError[^\n]*?(?P<image>[\w./-]+@sha256:[0-9a-f]{12})[0-9a-f]*: not found"
        r"|CannotPullContainerError[^\n]*(?:not found|manifest unknown)",
        "its image is not in the repository",
        "./alva deploy builds and pushes it; a digest given with --image must have been pushed",
    ),
    KnownCause(
        "no-repository",
        ECS,
        r"CannotPullContainerError[^\n]*repository with name '(?P<name>[^']+)' does not exist",
        "the repository {name} does not exist",
        "./alva status shows the registry stack; ./alva deploy creates it",
    ),
    KnownCause(
        "image-forbidden",
        ECS,
        r"CannotPullContainerError[^\n]*(?:403|AccessDenied|not authorized)|unable to retrieve ecr registry auth"
        r"[^\n]*(?:AccessDenied|not authorized)",
        "its execution role may not pull its image",
        "grant the execution role ecr:BatchGetImage and ecr:GetDownloadUrlForLayer on the repository (infrastructure/)",
    ),
    KnownCause(
        "image-unreachable",
        ECS,
        r"(?:CannotPullContainerError|ResourceInitializationError)[^\n]*(?:i/o timeout|context deadline|dial tcp)",
        "the task cannot reach the registry or Secrets Manager from its subnet",
        "./alva preflight --reachability: a route through the NAT gateway or endpoints is missing",
    ),
    KnownCause(
        "wrong-architecture",
        ECS,
        r"exec format error|image Manifest does not contain descriptor matching platform",
        "its image has another CPU architecture than the task",
        "build it for the task definition's RuntimePlatform",
    ),
    KnownCause(
        "wrong-architecture",
        LOG,
        r"^(?:standard_init_linux\.go:\d+: )?exec (?:/\S+|user process caused): exec format error",
        "its image has another CPU architecture than the task",
        "./alva preflight compares the image's architecture with the task definition's",
    ),
    KnownCause(
        "no-program",
        ECS,
        r"executable file not found|CannotStartContainerError[^\n]*no such file",
        "its image does not contain the program of its command",
        "check ENTRYPOINT and CMD in its Dockerfile",
    ),
    KnownCause(
        "no-program",
        LOG,
        r"^\[FATAL tini \(\d+\)\] exec \S+ failed: No such file|^exec: [^\n]+: executable file not found",
        "its image does not contain the program of its command",
        "check ENTRYPOINT and CMD in its Dockerfile",
    ),
)

LOG_GROUP = (
    KnownCause(
        "log-group-missing",
        ECS,
        r"The specified log group does not exist",
        "its log group does not exist: somebody deleted it",
        "./alva deploy creates it again",
    ),
)

SECRETS = (
    KnownCause(
        "secret-missing",
        ECS,
        r"ResourceNotFoundException[^\n]*secret"
        r"|unable to (?:pull|retrieve) secrets?[^\n]*(?:ResourceNotFoundException|can't find the specified secret)",
        "a secret that it needs does not exist",
        SECRETS_CHECK,
    ),
    KnownCause(
        "secret-missing",
        RELEASE,
        r": missing(?: \(used by|$)",
        "a secret that it needs does not exist",
        SECRETS_CHECK,
    ),
    KnownCause(
        "secret-key-missing",
        ECS,
        r"did not contain json key (?P<key>\S+)",
        "the secret that it needs has no key {key}",
        f"{SECRETS_CHECK}, then ./alva secrets set",
    ),
    KnownCause(
        "secret-unreadable",
        ECS,
        r"unable to (?:pull|retrieve) secrets?[^\n]*(?:AccessDenied|not authorized)",
        "its execution role may not read a secret that it needs",
        "grant the execution role secretsmanager:GetSecretValue on that secret (infrastructure/)",
    ),
    KnownCause(
        "secret-unset",
        RELEASE,
        r"alva:unset|: not set(?: \(used by|$)",
        "a secret that it needs is not set",
        "./alva secrets init generates secrets; ./alva secrets set NAME sets the others",
    ),
    KnownCause(
        "secret-unset",
        LOG,
        r"\balva:unset\b",
        "a secret that it needs is not set",
        SECRETS_CHECK,
    ),
    KnownCause(
        "role",
        AWS,
        r"unable to assume (?:the )?role",
        "ECS may not assume the role that the task definition names",
        "allow ecs-tasks.amazonaws.com to assume it (infrastructure/)",
    ),
)

RESOURCES = (
    KnownCause(
        "out-of-memory",
        frozenset({Source.TASK}),
        r"OutOfMemory|out of memory",
        "it used more memory than its task has",
        "raise its memory in infrastructure/lib/config, or find the leak: ./alva logs {subject}",
    ),
    KnownCause(
        "disk-full",
        ECS,
        r"No space left on device",
        "the task's disk is full",
        LOGS,
    ),
    KnownCause(
        "disk-full",
        LOG,
        r"\[Errno 28\] No space left|ENOSPC: no space left|could not (?:write|extend)[^\n]*No space left on device",
        "a disk is full",
        "find out whether it is the task's or the database's: ./alva logs {subject} --since 1h",
    ),
)
