"""The schema of a marketing plan. The model is given it, and its response is validated against it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Sentence = Annotated[str, Field(min_length=1, max_length=2000)]
Title = Annotated[str, Field(min_length=1, max_length=200)]
Effort = Literal["small", "medium", "large"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Channel(_Part):
    """A way to reach the audience."""

    name: Title
    why: Sentence
    actions: Annotated[list[Sentence], Field(min_length=1, max_length=8)]


class QuickWin(_Part):
    """Something small that pays soon."""

    title: Title
    description: Sentence


class PlannedTask(_Part):
    """Something to do, in its week."""

    title: Title
    description: Sentence
    channel: Title
    week: Annotated[int, Field(ge=1, le=12)]
    effort: Effort


class PlanContent(_Part):
    """A marketing plan for the next twelve weeks."""

    summary: Sentence
    positioning: Sentence
    channels: Annotated[list[Channel], Field(min_length=2, max_length=6)]
    quick_wins: Annotated[list[QuickWin], Field(min_length=2, max_length=5)]
    tasks: Annotated[list[PlannedTask], Field(min_length=4, max_length=24)]
    measures: Annotated[list[Sentence], Field(min_length=2, max_length=6)]
