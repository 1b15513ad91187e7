"""What a text that gives a cause away is, and the next steps that several of them name."""

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
class KnownCause:
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
