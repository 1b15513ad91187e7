"""Expected failures: message, evidence, next step, and the exit code of the command line.

A message begins with "cannot" and names the object. Only `alva.cli.main` turns an error into an exit code. A secret's
value never appears in a message or its evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self


class AlvaError(Exception):
    """An expected failure.

    `message` begins with "cannot". `evidence` has one line per observation (AWS's reason, a last log line). `next_step`
    is a command or an instruction.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, evidence: Sequence[str] = (), next_step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.evidence = tuple(evidence)
        self.next_step = next_step

    def __str__(self) -> str:
        lines = [self.message, *(f"  {line}" for line in self.evidence)]
        if self.next_step:
            lines.append(f"  next: {self.next_step}")
        return "\n".join(lines)

    def because(self, causes: Sequence[str], next_step: str | None) -> Self:
        """Put the causes before the other evidence, and replace the next step if one is given; return the error."""
        self.evidence = tuple(dict.fromkeys((*causes, *self.evidence)))
        self.next_step = next_step or self.next_step
        return self

    def as_json(self) -> dict[str, object]:
        """Return the fields as a dictionary, for `--json`."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "evidence": list(self.evidence),
            "next": self.next_step,
            "exit_code": self.exit_code,
        }


class UsageError(AlvaError):
    """The request is invalid: an unknown service, or two options that exclude each other."""

    exit_code = 2


class PreflightRefused(AlvaError):
    """A check before the first change failed: a secret is not set, an image is missing, or there are no credentials."""

    exit_code = 3


class MigrationFailed(AlvaError):
    """The migration failed; no service was changed."""

    exit_code = 4


class RolledBack(AlvaError):
    """The release failed, and all services run the former version again."""

    exit_code = 5


class TimedOut(AlvaError):
    """A step reached its deadline."""

    exit_code = 6


class VerificationFailed(AlvaError):
    """A check of the running environment failed."""

    exit_code = 7


class Locked(AlvaError):
    """Somebody else holds the lock of the environment."""

    exit_code = 8


class RollbackFailed(AlvaError):
    """The release failed, and its automatic rollback failed too."""

    exit_code = 9


class StackFailed(AlvaError):
    """CloudFormation could not update or create a stack; the stack is as it was before, or deleted."""

    exit_code = 5


class RegionNotRunning(AlvaError):
    """The local region does not run."""


class RegionFailed(AlvaError):
    """The local region could not be started or stopped: a port is in use, the disk is full, or its process ended."""


class SynthesisFailed(AlvaError):
    """The CDK app ended with an error."""


class BuildFailed(AlvaError):
    """An image could not be built from its Dockerfile."""


class SandboxFailed(AlvaError):
    """A process could not be started in its sandbox."""


class SessionFailed(AlvaError):
    """A session in a running task could not be opened, or its connection was lost."""


class SubnetFull(AlvaError):
    """A subnet has no free address."""
