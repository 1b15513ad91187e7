"""The decisions of the service scheduler, which `scheduler.py` makes and `controller.py` carries out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StartTasks:
    """Start tasks of a deployment."""

    deployment_id: str
    count: int


@dataclass(frozen=True, kw_only=True)
class StopTask:
    """Stop a task, with the reason."""

    task_id: str
    reason: str
    event: str = ""


@dataclass(frozen=True, kw_only=True)
class NoteHealthy:
    """A task has passed all of its health checks for the first time."""

    task_id: str


@dataclass(frozen=True, kw_only=True)
class NoteStable:
    """The primary deployment meets its success criteria: bake time starts."""

    deployment_id: str


@dataclass(frozen=True, kw_only=True)
class Complete:
    """The primary deployment has succeeded."""

    deployment_id: str


@dataclass(frozen=True, kw_only=True)
class Fail:
    """The primary deployment has failed; `rollback_to` is the revision to roll back to, if there is one."""

    deployment_id: str
    cause: str
    rollback_to: str | None
    triggered_alarms: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Remove:
    """A former deployment has no tasks left."""

    deployment_id: str


@dataclass(frozen=True, kw_only=True)
class NoteSteady:
    """The service has reached a steady state."""


@dataclass(frozen=True, kw_only=True)
class NoteStuck:
    """Minimum and maximum percent leave no room to start or to stop a task."""


@dataclass(frozen=True, kw_only=True)
class Deactivate:
    """The deleted service has no tasks left."""


Action = (
    StartTasks | StopTask | NoteHealthy | NoteStable | Complete | Fail | Remove | NoteSteady | NoteStuck | Deactivate
)
