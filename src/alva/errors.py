"""Every expected failure: what could not be done, the evidence, the next step, and the exit code the CLI ends with.

A message begins with "cannot" and names the thing. Only `alva.cli.main` turns one of these into an exit; everything
else raises. A secret's value never goes into a message or its evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self


class AlvaError(Exception):
    """Something expected went wrong.

    `message` begins with "cannot"; `evidence` holds what was seen, a line each (a reason in AWS's words, a last log
    line); `next_step` is a command or an action for a person.
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
        """The same error with its causes before the rest of the evidence, and what to do about them."""
        self.evidence = tuple(dict.fromkeys((*causes, *self.evidence)))
        self.next_step = next_step or self.next_step
        return self

    def as_json(self) -> dict[str, object]:
        """The same as values, for `--json`."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "evidence": list(self.evidence),
            "next": self.next_step,
            "exit_code": self.exit_code,
        }


class UsageError(AlvaError):
    """What was asked for makes no sense: an unknown service, two options that exclude each other."""

    exit_code = 2


class PreflightRefused(AlvaError):
    """Known to fail before anything was touched: a secret that nobody set, a missing image, no credentials."""

    exit_code = 3


class MigrationFailed(AlvaError):
    """The migration did not succeed; no service was touched."""

    exit_code = 4


class RolledBack(AlvaError):
    """The release failed, and every service runs again what it ran before."""

    exit_code = 5


class TimedOut(AlvaError):
    """A step reached its deadline."""

    exit_code = 6


class VerificationFailed(AlvaError):
    """What runs does not do what it should."""

    exit_code = 7


class Locked(AlvaError):
    """Somebody else is working on this environment."""

    exit_code = 8


class RollbackFailed(AlvaError):
    """The release failed, and its automatic rollback failed too."""

    exit_code = 9


class StackFailed(AlvaError):
    """CloudFormation could not bring a stack to its template; the stack is as it was before, or gone."""

    exit_code = 5


class RegionNotRunning(AlvaError):
    """The local region is not up."""


class RegionFailed(AlvaError):
    """The local region could not be started or stopped: a port in use, a full disk, died at start."""


class SynthesisFailed(AlvaError):
    """The CDK app ended with an error."""


class BuildFailed(AlvaError):
    """An image could not be built from its Dockerfile."""


class SandboxFailed(AlvaError):
    """A process's view of the machine could not be made, or the process not started in it."""


class SessionFailed(AlvaError):
    """A session in a running task could not be opened, or was lost."""


class SubnetFull(AlvaError):
    """A subnet has no free address left."""
