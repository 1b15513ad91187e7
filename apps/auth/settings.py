"""Auth's settings."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from common.settings import CommaJoined, Pem, SecretPem, ServiceSettings
from common.tokens import read_private_key, read_public_key


class AuthSettings(ServiceSettings):
    """Auth's environment variables (docs/reference/environment-variables.md)."""

    service: ClassVar[str] = "auth"

    database_url: str
    redis_url: str
    redis_password: SecretStr | None = None
    jwt_private_key: SecretPem
    """Signs access tokens (RS256)."""
    jwt_public_key: Pem
    jwt_secret: SecretStr = Field(min_length=32)
    """Signs the links in mails (HS256)."""
    cookie_secret: SecretStr = Field(min_length=32)
    """Signs the cookie of the refresh token."""
    resend_api_key: SecretStr
    mail_from: str
    public_url: str = Field(pattern=r"^https?://[^/]+$")
    """The scheme and host of links in mails, without a slash at the end."""
    cors_origins: CommaJoined = ()
    """Origins whose pages may send requests with credentials. A sign-in may redirect to them."""
    site_url: str = Field(default="", pattern=r"^(https?://[^/]+)?$")
    """The scheme and host of the pages. Empty if all services share one host."""
    cookie_domain: str = Field(default="", pattern=r"^([a-z0-9-]+(\.[a-z0-9-]+)+)?$")
    """The common domain of the hosts. Empty if all services share one host. docs/decisions/sign-in-across-hosts.md"""

    @field_validator("public_url", "site_url", mode="before")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        return value.rstrip("/")

    @field_validator("jwt_private_key")
    @classmethod
    def _check_private_key(cls, value: SecretStr) -> SecretStr:
        try:
            read_private_key(value.get_secret_value())
        except ValueError:
            raise ValueError("must be an RSA private key in PEM") from None
        return value

    @field_validator("jwt_public_key")
    @classmethod
    def _check_public_key(cls, value: str) -> str:
        try:
            read_public_key(value)
        except ValueError:
            raise ValueError("must be an RSA public key in PEM") from None
        return value

    @model_validator(mode="after")
    def _check_pair(self) -> Self:
        private = read_private_key(self.jwt_private_key.get_secret_value())
        if private.public_key().public_numbers() != read_public_key(self.jwt_public_key).public_numbers():
            raise ValueError("JWT_PUBLIC_KEY does not belong to JWT_PRIVATE_KEY")
        return self
