"""What goes in and comes out over HTTP."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from auth.tables import User
from common.tokens import Role

_EMAIL = re.compile(
    r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+"
)


def _normalise_email(value: str) -> str:
    value = value.strip().lower()
    if len(value) > 254 or not _EMAIL.fullmatch(value):
        raise ValueError("This is not an e-mail address.")
    return value


Email = Annotated[str, Field(max_length=300), AfterValidator(_normalise_email)]
Password = Annotated[str, Field(min_length=10, max_length=200)]
Next = Annotated[str, Field(max_length=500)]


class Body(BaseModel):
    """A request's body; a field that we do not know is refused rather than ignored."""

    model_config = ConfigDict(extra="forbid")


class RegisterBody(Body):
    """POST /register."""

    email: Email
    password: Password | None = None
    next: Next | None = None


class LinkBody(Body):
    """POST /link."""

    email: Email
    next: Next | None = None


class LoginBody(Body):
    """POST /login; any password is looked at, however short."""

    email: Email
    password: Annotated[str, Field(max_length=200)]


class HandoverBody(LoginBody):
    """POST /login/link."""

    next: Next | None = None


class Handover(BaseModel):
    """What the browser brings to `/verify`, which signs it in."""

    token: str


class PasswordBody(Body):
    """PUT /password.

    `current_password` may be left out shortly after a sign-in, and where the account has no password yet.
    """

    password: Password
    current_password: str | None = Field(default=None, max_length=200)


class RoleBody(Body):
    """PATCH /users/{id}."""

    role: Role


class InvitationBody(Body):
    """POST /invitations."""

    email: Email
    role: Role = "customer"


class Message(BaseModel):
    """A sentence for people."""

    detail: str


class UserView(BaseModel):
    """A user."""

    id: UUID
    email: str
    role: str
    is_verified: bool
    has_password: bool
    created_at: datetime

    @classmethod
    def of(cls, user: User) -> Self:
        """The view of a row."""
        return cls(
            id=user.id,
            email=user.email,
            role=user.role,
            is_verified=user.verified_at is not None,
            has_password=user.password_hash is not None,
            created_at=user.created_at,
        )


class UserPage(BaseModel):
    """Some of the users, newest first, and how many there are."""

    items: list[UserView]
    total: int


class AuditView(BaseModel):
    """An entry of the audit log."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    client: str
    details: dict[str, Any]


class AuditPage(BaseModel):
    """Some of the audit log, newest first, and how long it is."""

    items: list[AuditView]
    total: int
