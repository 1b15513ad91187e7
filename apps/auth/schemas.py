"""The bodies of requests and responses."""

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
    """A request's body. Unknown fields are refused."""

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
    """POST /login. The password has no minimum length here."""

    email: Email
    password: Annotated[str, Field(max_length=200)]


class HandoverBody(LoginBody):
    """POST /login/link."""

    next: Next | None = None


class Handover(BaseModel):
    """The token with which `/verify` signs the browser in."""

    token: str


class PasswordBody(Body):
    """PUT /password.

    `current_password` is optional within 15 minutes of a sign-in, and if the account has no password.
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
    """A message for the user."""

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
        """Return the view of a row."""
        return cls(
            id=user.id,
            email=user.email,
            role=user.role,
            is_verified=user.verified_at is not None,
            has_password=user.password_hash is not None,
            created_at=user.created_at,
        )


class UserPage(BaseModel):
    """A page of users, newest first, and their total number."""

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
    """A page of the audit log, newest first, and its total length."""

    items: list[AuditView]
    total: int
