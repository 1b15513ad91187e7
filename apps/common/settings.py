"""Settings of a service, read from the environment once at start."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

UNSET_SECRET = "alva:unset"  # noqa: S105 - the value of a secret that a person must still set


class SettingsError(Exception):
    """A setting is missing or invalid. The message has one line for each."""


def _comma_joined(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _pem(value: object) -> object:
    """Replace escaped newlines in a PEM by newlines."""
    return value.replace("\\n", "\n").strip() + "\n" if isinstance(value, str) else value


CommaJoined = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_comma_joined)]
Pem = Annotated[str, BeforeValidator(_pem)]
SecretPem = Annotated[SecretStr, BeforeValidator(_pem)]


class ServiceSettings(BaseSettings):
    """The variables that every task gets (docs/reference/environment-variables.md)."""

    model_config = SettingsConfigDict(env_file=None, extra="ignore", frozen=True, hide_input_in_errors=True)

    service: ClassVar[str] = "service"

    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    path_prefix: str = ""
    environment: str = "local"
    log_level: str = "INFO"
    image_digest: str = ""
    vpc_cidr: IPv4Network | None = None
    """Proxy headers are trusted from these addresses and from loopback; from loopback only if it is unset."""

    @field_validator("path_prefix")
    @classmethod
    def _check_path_prefix(cls, value: str) -> str:
        if value and (not value.startswith("/") or value.endswith("/")):
            raise ValueError("must be empty, or begin with a slash and not end with one")
        return value

    @field_validator("log_level")
    @classmethod
    def _check_log_level(cls, value: str) -> str:
        if value.upper() not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
            raise ValueError("must be DEBUG, INFO, WARNING or ERROR")
        return value.upper()

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_unset_secrets(cls, value: Any) -> Any:
        if value == UNSET_SECRET:
            raise ValueError("this secret is not set")
        return value

    @property
    def secret_values(self) -> tuple[str, ...]:
        """Return the values that must never be printed."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return tuple(value.get_secret_value() for value in values if isinstance(value, SecretStr))


Settings = TypeVar("Settings", bound=ServiceSettings)


def load(settings_class: type[Settings]) -> Settings:
    """Read the settings from the environment.

    Raises SettingsError with one line per invalid setting. A line never quotes the value, which may be a secret.
    """
    try:
        return settings_class()  # type: ignore[call-arg]
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            name = ".".join(str(part) for part in problem["loc"]).upper() or "SETTINGS"
            message = "is missing" if problem["type"] == "missing" else problem["msg"].removeprefix("Value error, ")
            lines.append(f"  {name}: {message}")
        raise SettingsError("\n".join([f"cannot start {settings_class.service}: wrong settings", *lines])) from None
