"""The connection to the cache verifies the certificate and needs the password."""

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
    async def send_ping() -> bool:
        loop = asyncio.get_running_loop()
        client = cache.connect(url, password)
        try:
            return bool(await client.ping())
        finally:
            await client.aclose()
            # redis-py does not wait for the end of a TLS connection that failed. The loop itself has one pipe.
            while len(loop._selector.get_map()) > 1:  # type: ignore[attr-defined]  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    return asyncio.run(send_ping())


@pytest.fixture
def trust(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Set OpenSSL's variable for the certificate bundle, as the image does."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    return monkeypatch


@pytest.mark.usefixtures("trust")
def test_server_with_the_right_certificate_is_accepted(valkey: ValkeyServer) -> None:
    assert valkey.url.startswith("rediss://")
    assert ping(valkey.url, valkey.password)


def test_certificate_of_another_authority_is_refused(
    valkey: ValkeyServer, trust: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trust.setenv("SSL_CERT_FILE", str(Authority(tmp_path, "Others").file))
    with pytest.raises(CacheConnectionError, match="CERTIFICATE_VERIFY_FAILED"):
        ping(valkey.url, valkey.password)


@pytest.mark.usefixtures("trust")
def test_certificate_for_another_name_is_refused(valkey: ValkeyServer) -> None:
    with pytest.raises(CacheConnectionError, match="IP address mismatch"):
        ping(valkey.url.replace("localhost", "127.0.0.1"), valkey.password)


@pytest.mark.usefixtures("trust")
@pytest.mark.parametrize("password", ["not-the-password", None])
def test_wrong_password_is_refused_and_not_logged(valkey: ValkeyServer, password: str | None) -> None:
    with pytest.raises(AuthenticationError) as failure:
        ping(valkey.url, password)
    assert "not-the-password" not in str(failure.value)
