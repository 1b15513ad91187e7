"""Rate limits. All tasks share the counters, which are in Redis."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from redis.asyncio import Redis

from common.refusal import Refusal


@dataclass(frozen=True)
class Limit:
    """At most `count` attempts within `seconds`."""

    count: int
    seconds: int


@dataclass(frozen=True)
class Limits:
    """The limit per e-mail address stops guessing. The limit per client address is higher, because an office shares
    one.
    """

    login_per_email: Limit = Limit(10, 15 * 60)
    login_per_client: Limit = Limit(200, 15 * 60)
    mail_per_email: Limit = Limit(6, 30 * 60)
    mail_per_client: Limit = Limit(100, 30 * 60)


class RateLimiter:
    """Counts attempts in fixed time windows."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def count(self, name: str, who: str, limit: Limit) -> None:
        """Count one attempt. Raises Refusal (429) above the limit."""
        key = f"limit:{name}:{hashlib.sha256(who.encode()).hexdigest()[:32]}"
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.set(key, 0, ex=limit.seconds, nx=True)
            pipeline.incr(key)
            pipeline.ttl(key)
            _, attempts, seconds_left = await pipeline.execute()
        if attempts > limit.count:
            raise Refusal(429, "Too many attempts. Please wait a little.", retry_after_seconds=max(seconds_left, 1))

    async def forget(self, name: str, who: str) -> None:
        """Reset the counter after a success."""
        await self._redis.delete(f"limit:{name}:{hashlib.sha256(who.encode()).hexdigest()[:32]}")
