"""The connection to Redis or Valkey, with TLS and an AUTH token where the URL is `rediss://`."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

UNAVAILABLE = (RedisConnectionError, RedisTimeoutError, BusyLoadingError)
"""What is raised where the cache does not answer."""


def connect(url: str, password: str | None, *, timeout_seconds: float = 5, client_name: str | None = None) -> Redis:
    """A client with a pool of its own; nothing is opened before the first use. `client_name` names its connections.

    Certificates are verified against the system's bundle (SSL_CERT_FILE). A connection that broke is made anew, with
    three attempts within half a second.
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
