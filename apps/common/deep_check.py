"""`python -m common.deep_check JSON`: check the api's dependencies from inside the network.

`./alva verify` and every release run it in a one-off task with the api's image. The argument is a JSON object:

- `services`: service name -> port and path of its health endpoint, such as `:3000/health`
- `address`: the URL in front of them, with `{}` in place of the name
- `customer`: e-mail address of the customer that the verification created and that is deleted here, or null
- `patience`: for how many seconds a failing check is repeated

It prints one JSON object for each check. A check is SKIP if the image lacks a package or a variable that it needs.
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

SCHEMAS = ("api", "auth")
"""The schemas of this product. Another product's tables in the same database have users of their own."""


def require(holds: object, problem: str) -> None:
    """Raise RuntimeError with `problem` unless `holds` is true."""
    if not holds:
        raise RuntimeError(problem)


def database_url() -> str:
    """The database's URL in libpq's form."""
    return os.environ["DATABASE_URL"].replace("postgresql+psycopg://", "postgresql://")


def delete_customer(email: str) -> str:
    """Delete the customer's rows from each table that has a column `user_id` or `email`."""
    import psycopg
    from psycopg.sql import SQL, Identifier

    tables = SQL(
        "SELECT table_schema, table_name FROM information_schema.columns"
        " WHERE column_name = %s AND table_schema = ANY(%s)"
    )
    deleted = 0
    with psycopg.connect(database_url(), connect_timeout=10) as connection:
        user = connection.execute("SELECT id FROM auth.users WHERE email = %s", [email]).fetchone()
        for column, value in (("user_id", user and user[0]), ("email", email)):
            for table in connection.execute(tables, [column, list(SCHEMAS)]).fetchall() if value else ():
                delete = SQL("DELETE FROM {} WHERE {} = %s").format(Identifier(*table), Identifier(column))
                deleted += connection.execute(delete, [value]).rowcount
    return f"deleted {deleted} rows of {email}"


def database() -> str:
    """Write a row and read it back through an encrypted connection. The transaction is rolled back."""
    import psycopg

    with psycopg.connect(database_url(), connect_timeout=10) as connection:

        def one(query: str) -> tuple[object, ...]:
            return connection.execute(query).fetchone() or (None,)

        is_encrypted, version = one("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        require(is_encrypted, "the connection is not encrypted")
        require(one("SELECT NOT pg_is_in_recovery()")[0], "it is read-only")
        connection.execute("CREATE TEMPORARY TABLE alva_verify (value text)")
        value = uuid.uuid4().hex
        connection.execute("INSERT INTO alva_verify VALUES (%s)", [value])
        require(one("SELECT value FROM alva_verify")[0] == value, "the value read is not the value written")
        connection.rollback()
    require(
        "sslmode=verify-full" in database_url(),
        "the connection does not verify the certificate: sslmode must be verify-full",
    )
    return f"a row was written and read over {version}, with a verified certificate"


def queue() -> str:
    """Push a value to a list and pop it, as a queue does. Check that a full cache does not evict jobs."""
    import redis

    url, password = os.environ["REDIS_URL"], os.environ.get("REDIS_PASSWORD")
    client = redis.Redis.from_url(url, password=password, socket_timeout=10, decode_responses=True)
    # ElastiCache forbids CONFIG GET. INFO has the same value.
    policy = client.info("memory").get("maxmemory_policy")
    require(policy == "noeviction", f"maxmemory-policy is {policy}, so a full cache evicts jobs; it must be noeviction")
    key, value = f"alva:verify:{uuid.uuid4().hex}", uuid.uuid4().hex
    started = time.monotonic()
    client.lpush(key, value)
    client.expire(key, 60)
    require(list(client.brpop([key], timeout=5) or ()) == [key, value], "the queued value did not come back")
    return f"a value was queued and taken in {(time.monotonic() - started) * 1000:.0f} ms, {policy}"


def service(url: str) -> Callable[[], str]:
    """Request a service's health endpoint by its Cloud Map name, and report the states of its dependencies.

    A service that returns states (`{"checks": {"database": "ok"}}`) is judged by them, any other by its HTTP status.
    """

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
    """Repeat a check until it passes or the deadline has passed."""
    while True:
        try:
            return {"verdict": "OK", "reason": check()}
        except (ImportError, KeyError) as error:
            lacks = error.name if isinstance(error, ImportError) else error
            return {"verdict": "SKIP", "reason": f"the image has no {lacks}"}
        except Exception as error:
            if time.monotonic() > deadline:
                return {"verdict": "FAIL", "reason": f"{type(error).__name__}: {error}"}
        time.sleep(0.5)


def main() -> None:
    """Run all checks at the same time and print their results."""
    asked = json.loads(sys.argv[1])
    deadline = time.monotonic() + asked["patience"]
    checks = {"database": database, "queue": queue}
    for name, rest in asked["services"].items():
        checks[f"{name} by name"] = service(asked["address"].format(name) + rest)
    if asked["customer"]:
        checks["customer"] = lambda: delete_customer(asked["customer"])
    with ThreadPoolExecutor(len(checks)) as pool:
        for name, result in zip(checks, pool.map(judge, checks.values(), [deadline] * len(checks)), strict=True):
            print(json.dumps({"alva_check": name, **result}), flush=True)


if __name__ == "__main__":
    main()
