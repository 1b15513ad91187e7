"""The form of a known cause, and the next steps that several causes share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Source(Enum):
    """The origin of a text about a failure."""

    TASK = "task"
    """ECS: the stopped reason of a task or container."""
    SERVICE = "service"
    """ECS: a service event, with the load balancer's reasons."""
    STACK = "stack"
    """CloudFormation: an event of a stack."""
    RELEASE = "release"
    """This tool: an error, which can quote AWS's API, or a failed check."""
    LOG = "log"
    """A container's log, which can contain anything."""


ECS = frozenset({Source.TASK, Source.SERVICE})
AWS = ECS | {Source.STACK}
RELEASE = frozenset({Source.RELEASE})
LOG = frozenset({Source.LOG})


@dataclass(frozen=True)
class KnownCause:
    """A known cause. `cause` and `next_step` can use the pattern's groups, `subject`, `port` and
    `generated_name`.
    """

    kind: str
    sources: frozenset[Source]
    """The origins that the pattern applies to."""
    pattern: str
    """A case-insensitive regular expression."""
    cause: str
    next_step: str


SECRETS_CHECK = "./alva secrets check"
LOGS = "./alva logs {subject} --since 1h"
ROTATE = "./alva secrets rotate {generated_name} sets one new password for the database, the cache and the tasks"
ASK_INSIDE = "./alva verify signs in with the same secret, and names the next step"
STATUS_OF = (
    "./alva status shows whether the {0} is available; ./alva preflight --reachability shows whether tasks reach it"
)
