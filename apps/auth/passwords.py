"""Passwords: argon2id with the parameters of OWASP's password storage cheat sheet (19 MiB, two passes)."""

from __future__ import annotations

import asyncio

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

_AT_ONCE = 2


class Passwords:
    """Hashes and compares passwords in threads, two at a time to limit the memory."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._nobodys = ""

    async def hash(self, password: str) -> str:
        """Return the hash to store."""
        async with self._turns:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Return whether the password matches the hash. Without a hash it returns False after the same time."""
        if not self._nobodys:
            self._nobodys = await self.hash("nobody's password")
        async with self._turns:
            is_right = await asyncio.to_thread(self._verify, password, password_hash or self._nobodys)
        return is_right and password_hash is not None

    def _verify(self, password: str, password_hash: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False
