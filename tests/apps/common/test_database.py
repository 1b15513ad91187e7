"""The connection to PostgreSQL is to the server that it should be to."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from common.database import Database
from tests.apps.conftest import PostgresServer


def check(url: str) -> None:
    async def ask() -> None:
        database = Database(url, application_name="alva-test", pool_size=1)
        try:
            await database.check()
        finally:
            await database.close()

    asyncio.run(ask())


@pytest.fixture
def environment(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in postgres.environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_server_with_the_right_certificate_is_talked_to(postgres: PostgresServer) -> None:
    check(postgres.url("postgres"))


def test_server_whose_certificate_another_authority_signed_is_not(
    postgres: PostgresServer, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    key = ["-newkey", "rsa:2048", "-nodes", "-keyout", str(tmp_path / "key.pem")]
    subprocess.run(
        ["openssl", "req", "-x509", *key, "-subj", "/CN=localhost", "-out", str(other)], check=True, capture_output=True
    )
    environment.setenv("PGSSLROOTCERT", str(other))
    with pytest.raises(OperationalError, match="certificate verify failed"):
        check(postgres.url("postgres"))


@pytest.mark.usefixtures("environment")
def test_server_with_a_certificate_for_another_name_is_not(postgres: PostgresServer) -> None:
    url = postgres.url("postgres").replace("@localhost:", "@elsewhere.test:") + "&hostaddr=127.0.0.1"
    with pytest.raises(OperationalError, match="does not match host name"):
        check(url)


def test_wrong_password_is_refused_and_not_told(postgres: PostgresServer, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PGPASSWORD", "not-the-password")
    with pytest.raises(OperationalError, match="password authentication failed") as failure:
        check(postgres.url("postgres"))
    assert "not-the-password" not in str(failure.value)
