"""Invalid settings are named, one line each, without their values."""

from __future__ import annotations

from typing import ClassVar

import pytest
from pydantic import SecretStr

from common.settings import CommaJoined, Pem, ServiceSettings, SettingsError, load


class ExampleSettings(ServiceSettings):
    service: ClassVar[str] = "example"

    api_key: SecretStr
    public_key: Pem = ""
    origins: CommaJoined = ()


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOST", "PORT", "PATH_PREFIX", "LOG_LEVEL", "VPC_CIDR", "API_KEY", "ENVIRONMENT", "IMAGE_DIGEST"):
        monkeypatch.delenv(name, raising=False)


def test_every_wrong_setting_has_a_line_and_no_value_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "seventy-secret")
    monkeypatch.setenv("PATH_PREFIX", "api/")
    monkeypatch.setenv("VPC_CIDR", "10.0.0.0/99")
    monkeypatch.setenv("LOG_LEVEL", "loud")
    with pytest.raises(SettingsError) as caught:
        load(ExampleSettings)
    lines = str(caught.value).splitlines()
    assert lines[0] == "cannot start example: wrong settings"
    assert {line.split(":")[0].strip() for line in lines[1:]} == {
        "PORT",
        "PATH_PREFIX",
        "VPC_CIDR",
        "LOG_LEVEL",
        "API_KEY",
    }
    assert "  API_KEY: is missing" in lines
    assert "secret" not in str(caught.value)


def test_unset_secret_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "3001")
    monkeypatch.setenv("API_KEY", "alva:unset")
    with pytest.raises(SettingsError, match="API_KEY: this secret is not set"):
        load(ExampleSettings)


def test_good_settings_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "3001")
    monkeypatch.setenv("API_KEY", "sk-123456789")
    monkeypatch.setenv("PUBLIC_KEY", "-----BEGIN-----\\nabc\\n-----END-----")
    monkeypatch.setenv("ORIGINS", "https://a.example, https://b.example,")
    settings = load(ExampleSettings)
    assert settings.public_key == "-----BEGIN-----\nabc\n-----END-----\n"
    assert settings.origins == ("https://a.example", "https://b.example")
    assert settings.secret_values == ("sk-123456789",)
    assert "sk-123456789" not in repr(settings)
