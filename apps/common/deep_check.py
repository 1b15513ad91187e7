"""`python -m common.deep_check JSON`: what a verification runs in a one-off task, to ask what the service depends on.

The argument is JSON: `services`, name -> port and path to ask, such as `:3000/health`; `address`, what comes before,
with `{}` for the name; `customer`, the address of one that the verification made and that is forgotten here (or null);
and `patience`, for how many seconds a check that fails is tried again. It prints one JSON object per check; SKIP where
the image lacks what a check needs. A service that answers with its dependencies' states (`{"checks": {name: "ok"}}`)
is judged by them, any other by its status.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


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
    """Ask a service for its health, by its name inside the network; what it says of its dependencies."""

    def ask() -> str:
        try:
            answer = urllib.request.urlopen(url, timeout=20)  # noqa: S310
        except urllib.error.HTTPError as refusal:
            answer = refusal
        with answer:
            status, body = answer.status, answer.read()
        try:
            parts = json.loads(body).get("checks", {})
        except (ValueError, AttributeError):
            parts = {}
        said = ", ".join(f"{name} {state}" for name, state in parts.items())
        require(status < 400, f"HTTP {status}" + (f": {said}" if said else ""))
        return f"{url.split('/')[2]} answers" + (f": {said}" if said else "")

    return ask


def judge(check: Callable[[], str], deadline: float) -> dict[str, str]:
    """Run one check until it does not fail, or until the deadline."""
    while True:
        try:
            return {"verdict": "OK", "reason": check()}
        except (ImportError, KeyError) as error:
            lacks = error.name if isinstance(error, ImportError) else error
            return {"verdict": "SKIP", "reason": f"the api has no {lacks}"}
        except Exception as error:
            if time.monotonic() > deadline:
                return {"verdict": "FAIL", "reason": f"{type(error).__name__}: {error}"}
        time.sleep(0.5)


def main() -> None:
    """Run every check, side by side, and print what came of it."""
    asked = json.loads(sys.argv[1])
    deadline = time.monotonic() + asked["patience"]
    checks = {"database": database, "queue": queue}
    for name, rest in asked["services"].items():
        checks[f"{name} by name"] = service(asked["address"].format(name) + rest)
    if asked["customer"]:
        checks["customer"] = lambda: forget(asked["customer"])
    with ThreadPoolExecutor(len(checks)) as pool:
        for name, result in zip(checks, pool.map(judge, checks.values(), [deadline] * len(checks)), strict=True):
            print(json.dumps({"alva_check": name, **result}), flush=True)


if __name__ == "__main__":
    main()
