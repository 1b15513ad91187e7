"""What the api and its worker read from their environment."""

from __future__ import annotations

from typing import ClassVar

from pydantic import SecretStr, field_validator

from kit.settings import CommaJoined, ServiceSettings
from kit.tokens import read_public_key


class ApiSettings(ServiceSettings):
    """The api's environment (docs/architecture.md); the worker's container has the same."""

    service: ClassVar[str] = "api"

    database_url: str
    redis_url: str
    redis_password: SecretStr | None = None
    jwt_public_key: str
    """Verifies access tokens (RS256)."""
    openai_api_key: SecretStr
    openai_model: str = "gpt-4.1-mini"
    cors_origins: CommaJoined = ()

    @field_validator("jwt_public_key", mode="before")
    @classmethod
    def _restore_newlines(cls, value: str) -> str:
        return value.replace("\\n", "\n").strip() + "\n"

    @field_validator("jwt_public_key")
    @classmethod
    def _check_public_key(cls, value: str) -> str:
        try:
            read_public_key(value)
        except ValueError:
            raise ValueError("must be an RSA public key in PEM") from None
        return value

    @property
    def redis_password_value(self) -> str | None:
        """The cache's AUTH token."""
        return self.redis_password.get_secret_value() if self.redis_password else None


class WorkerSettings(ApiSettings):
    """The same, for a process that calls itself worker in its logs and listens on no port."""

    service: ClassVar[str] = "worker"

    port: int = 0
