"""The connection to PostgreSQL verifies the certificate."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from common.database import Database
from tests.apps.conftest import PostgresServer


def check(url: str) -> None:
    async def query() -> None:
        database = Database(url, application_name="alva-test", pool_size=1)
        try:
            await database.check()
        finally:
            await database.close()

    asyncio.run(query())


@pytest.fixture
def environment(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in postgres.environment.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.usefixtures("environment")
def test_server_with_the_right_certificate_is_accepted(postgres: PostgresServer) -> None:
    check(postgres.url("postgres"))


def test_certificate_of_another_authority_is_refused(
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
def test_certificate_for_another_name_is_refused(postgres: PostgresServer) -> None:
    url = postgres.url("postgres").replace("@localhost:", "@elsewhere.test:") + "&hostaddr=127.0.0.1"
    with pytest.raises(OperationalError, match="does not match host name"):
        check(url)


def test_wrong_password_is_refused_and_not_logged(postgres: PostgresServer, environment: pytest.MonkeyPatch) -> None:
    environment.setenv("PGPASSWORD", "not-the-password")
    with pytest.raises(OperationalError, match="password authentication failed") as failure:
        check(postgres.url("postgres"))
    assert "not-the-password" not in str(failure.value)
