"""Settings of the api and its worker."""

from __future__ import annotations

from typing import ClassVar

from pydantic import SecretStr, field_validator

from common.settings import CommaJoined, Pem, ServiceSettings


class StoreSettings(ServiceSettings):
    """The addresses of the database and the cache."""

    database_url: str
    redis_url: str
    redis_password: SecretStr | None = None

    @property
    def redis_password_value(self) -> str | None:
        """Return the cache's AUTH token."""
        return self.redis_password.get_secret_value() if self.redis_password else None


class ApiSettings(StoreSettings):
    """The api's environment variables (docs/reference/environment-variables.md)."""

    service: ClassVar[str] = "api"

    jwt_public_key: Pem
    """Verifies access tokens (RS256)."""
    cors_origins: CommaJoined = ()

    @field_validator("jwt_public_key")
    @classmethod
    def _check_public_key(cls, value: str) -> str:
        # Imported here, because the worker does not need the cryptography library.
        from common.tokens import read_public_key

        try:
            read_public_key(value)
        except ValueError:
            raise ValueError("must be an RSA public key in PEM") from None
        return value


class WorkerSettings(StoreSettings):
    """The worker's environment variables. It listens on no port. Only the worker calls OpenAI."""

    service: ClassVar[str] = "worker"

    port: int = 0
    openai_api_key: SecretStr
    openai_model: str = "gpt-4.1-mini"
