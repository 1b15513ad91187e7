"""The bodies of requests and responses."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from api.content import PlanContent

PlanStatus = Literal["queued", "running", "ready", "failed", "cancelled"]
TaskStatus = Literal["todo", "doing", "done"]
JobState = Literal["waiting", "active", "delayed", "completed", "failed"]
IN_THE_MAKING = ("queued", "running")

# PostgreSQL's type text cannot contain a NUL character.
_NO_NUL = r"^[^\x00]*$"
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_NO_NUL)]
OptionalLine = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200, pattern=_NO_NUL)]
Paragraph = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000, pattern=_NO_NUL)]


class _View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class Problem(BaseModel):
    """The reason for a refusal, as a sentence for the user."""

    detail: str


class ProfileBody(BaseModel):
    """A customer's business profile."""

    model_config = ConfigDict(extra="forbid")

    business_name: Line
    industry: Line
    audience: Paragraph
    goals: Annotated[list[Line], Field(min_length=1, max_length=10)]
    location: OptionalLine = ""
    website: OptionalLine = ""
    budget_per_month: Annotated[int, Field(ge=0, le=10_000_000)] | None = None
    channels: Annotated[list[Line], Field(max_length=10)] = []


class ProfileView(_View):
    """A stored profile."""

    business_name: str
    industry: str
    audience: str
    goals: list[str]
    location: str
    website: str
    budget_per_month: int | None
    channels: list[str]
    updated_at: datetime


class PlanProgress(_View):
    """A plan's progress."""

    id: UUID
    business_name: str
    status: PlanStatus
    progress: int
    step: str
    problem: str
    created_at: datetime
    finished_at: datetime | None


class PlanView(PlanProgress):
    """A plan. It has content once its status is `ready`."""

    content: PlanContent | None


class PlanPage(BaseModel):
    """A page of a user's plans, newest first, and their total number."""

    items: list[PlanView]
    total: int


class TaskBody(BaseModel):
    """PATCH /tasks/{id}."""

    model_config = ConfigDict(extra="forbid")

    status: TaskStatus


class TaskView(_View):
    """A task of a plan."""

    id: UUID
    plan_id: UUID
    title: str
    description: str
    channel: str
    effort: str
    week: int
    is_quick_win: bool
    status: TaskStatus
    position: int


class TaskList(BaseModel):
    """All tasks of a plan, in their order."""

    items: list[TaskView]


class AdminPlanView(PlanProgress):
    """A plan for administrators: with its user, without its content."""

    user_id: UUID


class AdminPlanPage(BaseModel):
    """A page of the plans of all users, newest first, and their total number."""

    items: list[AdminPlanView]
    total: int


class JobView(BaseModel):
    """A job of the queue."""

    id: str
    plan_id: str
    state: str
    attempts: int
    progress: int
    failed_reason: str | None
    created_at: datetime
    finished_at: datetime | None


class JobPage(BaseModel):
    """A page of the queue's jobs, and the total number in these states."""

    items: list[JobView]
    total: int


class QueueView(BaseModel):
    """The number of jobs in each state and the number of workers."""

    name: str
    counts: dict[str, int]
    workers: int


JsonObject = dict[str, Any]
