"""What `./alva verify --deep` runs inside a task of the api: its source is sent, so it imports nothing of ours.

Its argument is JSON: `services`, name -> URL to ask, and `customer`, the address of one that the verification made and
that is forgotten here (or null). It prints one JSON object per check. RunTask takes 8 KB of overrides
(AWS: RunTask, overrides), so this stays small.
"""

import json
import os
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable


def require(holds: object, problem: str) -> None:
    """Raise RuntimeError with the problem unless it holds."""
    if not holds:
        raise RuntimeError(problem)


def database_url() -> str:
    """The database as libpq names it."""
    return os.environ["DATABASE_URL"].replace("postgresql+psycopg://", "postgresql://")


def forget(email: str) -> str:
    """Delete the rows of a customer, in whichever tables they are: those of its id (`user_id`), and of its address."""
    import psycopg
    from psycopg.sql import SQL, Identifier

    tables = SQL("SELECT table_schema, table_name FROM information_schema.columns WHERE column_name = %s")
    deleted = 0
    with psycopg.connect(database_url(), connect_timeout=10) as connection:
        by_address = connection.execute(tables, ["email"]).fetchall()
        (users,) = [Identifier(*table) for table in by_address if table[1] == "users"]
        found = connection.execute(SQL("SELECT id FROM {} WHERE email = %s").format(users), [email]).fetchone()
        for column, value, where in (
            ("user_id", found and found[0], connection.execute(tables, ["user_id"]).fetchall()),
            ("email", email, by_address),
        ):
            for table in where if value else ():
                delete = SQL("DELETE FROM {} WHERE {} = %s").format(Identifier(*table), Identifier(column))
                deleted += connection.execute(delete, [value]).rowcount
    return f"{email} is forgotten: {deleted} rows"


def database() -> str:
    """Write and read through an encrypted connection; nothing of it stays."""
    import psycopg

    with psycopg.connect(database_url(), connect_timeout=10) as connection:

        def one(query: str) -> tuple[object, ...]:
            return connection.execute(query).fetchone() or (None,)

        is_encrypted, version = one("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        require(is_encrypted, "the connection is not encrypted")
        require(one("SELECT NOT pg_is_in_recovery()")[0], "it takes no writes")
        connection.execute("CREATE TEMPORARY TABLE alva_verify (value text)")
        value = uuid.uuid4().hex
        connection.execute("INSERT INTO alva_verify VALUES (%s)", [value])
        require(one("SELECT value FROM alva_verify")[0] == value, "what was written is not what is read")
        connection.rollback()
    require("sslmode=verify-full" in database_url(), "its certificate is not verified (sslmode)")
    return f"written and read over {version}, its certificate verified"


def queue() -> str:
    """Put something into a list and take it out, as a queue does; look at what a full cache would do."""
    import redis

    url, password = os.environ["REDIS_URL"], os.environ.get("REDIS_PASSWORD")
    client = redis.Redis.from_url(url, password=password, socket_timeout=10, decode_responses=True)
    # ElastiCache refuses CONFIG GET; INFO says the same.
    policy = client.info("memory").get("maxmemory_policy")
    require(policy == "noeviction", f"maxmemory-policy is {policy}: a full cache would lose jobs")
    key, value = f"alva:verify:{uuid.uuid4().hex}", uuid.uuid4().hex
    started = time.monotonic()
    client.lpush(key, value)
    client.expire(key, 60)
    require(list(client.brpop([key], timeout=5) or ()) == [key, value], "what was queued did not come back")
    return f"queued and taken in {(time.monotonic() - started) * 1000:.0f} ms, {policy}"


def service(url: str) -> Callable[[], str]:
    """Ask a service for its health, by its name inside the network."""

    def ask() -> str:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310
            said = json.load(answer)
        parts = ", ".join(f"{name} {state}" for name, state in said.get("checks", {}).items())
        return f"{url.split('/')[2]} answers" + (f": {parts}" if parts else "")

    return ask


def main() -> None:
    """Run every check and print what came of it."""
    asked = json.loads(sys.argv[1])
    checks = {"database": database, "queue": queue}
    for name, url in asked["services"].items():
        checks[f"{name} by name"] = service(url)
    if asked["customer"]:
        checks["customer"] = lambda: forget(asked["customer"])
    for name, check in checks.items():
        try:
            verdict, reason = "OK", check()
        except Exception as error:
            verdict, reason = "FAIL", f"{type(error).__name__}: {error}"
        print(json.dumps({"alva_check": name, "verdict": verdict, "reason": reason}), flush=True)


if __name__ == "__main__":
    main()
