"""The connection to Redis or Valkey. A URL that begins with `rediss://` uses TLS."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

UNAVAILABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError)
"""The exceptions that mean that the cache is not available."""


def connect(url: str, password: str | None, *, timeout_seconds: float = 5, client_name: str | None = None) -> Redis:
    """Return a client with its own connection pool. Connections are opened at first use and are named `client_name`.

    Certificates are verified against the system's bundle (SSL_CERT_FILE). A broken connection is retried three times
    within half a second.
    """
    return Redis.from_url(
        url,
        password=password or None,
        client_name=client_name,
        decode_responses=True,
        socket_connect_timeout=3,
        socket_timeout=timeout_seconds,
        socket_keepalive=True,
        health_check_interval=30,
        max_connections=50,
        retry=Retry(ExponentialBackoff(cap=0.3, base=0.05), 3),
        retry_on_error=list(UNAVAILABLE),
    )
