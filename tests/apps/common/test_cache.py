"""The connection to the cache is to the server that it should be to, and by its password only."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError
from redis.exceptions import ConnectionError as CacheConnectionError

from common import cache
from tests.apps.authority import Authority
from tests.apps.conftest import ValkeyServer


def ping(url: str, password: str | None) -> bool:
    async def ask() -> bool:
        client = cache.connect(url, password)
        try:
            return bool(await client.ping())
        finally:
            await client.aclose()

    return asyncio.run(ask())


@pytest.fixture
def trust(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What the image sets: the system's bundle, by OpenSSL's own variable."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return monkeypatch


@pytest.mark.usefixtures("trust")
def test_server_with_the_right_certificate_is_talked_to(valkey: ValkeyServer) -> None:
    assert valkey.url.startswith("rediss://")
    assert ping(valkey.url, valkey.password)


def test_server_whose_certificate_another_authority_signed_is_not(
    valkey: ValkeyServer, trust: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trust.setenv("SSL_CERT_FILE", str(Authority(tmp_path, "Others").file))
    with pytest.raises(CacheConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        ping(valkey.url, valkey.password)


@pytest.mark.usefixtures("trust")
def test_server_with_a_certificate_for_another_name_is_not(valkey: ValkeyServer) -> None:
    with pytest.raises(CacheConnectionError, match="IP address mismatch"):
        ping(valkey.url.replace("localhost", "127.0.0.1"), valkey.password)


@pytest.mark.usefixtures("trust")
@pytest.mark.parametrize("password", ["not-the-password", None])
def test_wrong_password_is_refused_and_not_told(valkey: ValkeyServer, password: str | None) -> None:
    with pytest.raises(AuthenticationError) as failure:
        ping(valkey.url, password)
    assert "not-the-password" not in str(failure.value)
