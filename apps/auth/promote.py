"""`python -m auth.promote EMAIL`: makes a user an administrator. Run it as a one-off task with auth's environment."""

from __future__ import annotations

import asyncio
import sys

from pydantic import TypeAdapter, ValidationError

from auth.app import build_service
from auth.credentials import AccessTokens
from auth.schemas import Email
from auth.settings import AuthSettings
from common import cache
from common.database import Database
from common.process import load_or_exit


async def promote(settings: AuthSettings, email: str) -> None:
    """Make the user with this address an administrator. They sign in with a link by mail."""
    store = Database(settings.database_url, application_name="alva-auth-promote", pool_size=1)
    password = settings.redis_password
    redis = cache.connect(settings.redis_url, password.get_secret_value() if password else None)
    access_tokens = AccessTokens(settings.jwt_private_key.get_secret_value())
    try:
        user = await build_service(settings, store, redis, access_tokens).promote(email)
    finally:
        await store.close()
        await redis.aclose()
    print(f"{user.email} is an administrator from the next sign-in on")


def main(arguments: list[str]) -> int:
    """Exit with 2 unless there is exactly one e-mail address."""
    try:
        (argument,) = arguments
        email = TypeAdapter(Email).validate_python(argument)
    except (ValueError, ValidationError):
        print("usage: python -m auth.promote EMAIL", file=sys.stderr)
        return 2
    asyncio.run(promote(load_or_exit(AuthSettings), email))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
