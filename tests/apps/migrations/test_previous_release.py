"""The former release's code works with the schema of each revision.

The statements of that code were recorded while it was current (`recordings/`). The tests run them against the
revision's schema. `ALVA_RECORD=1` records the statements of the present code.
docs/decisions/migrations-run-beside-the-former-release.md
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from migrations import history
from tests.apps.conftest import Outside, PostgresServer, RunningProcess, base_environment, launch, wait_until_ready
from tests.ports import free_port
from tests.waiting import until

from .recording import Statement, command, functions_of, questions, read, read_notes, replay, shorten, write
from .test_history import REVISIONS, silent

RECORDINGS = Path(__file__).parent / "recordings"
HEAD = REVISIONS[-1]
ROOT = Path(__file__).parents[3]
PASSWORD = "correct horse battery staple"
PROFILE = {"business_name": "Crumb & Co", "industry": "Bakery", "audience": "Neighbours", "goals": ["More guests"]}


def _recording(revision: str) -> Path:
    return RECORDINGS / f"{revision}.json"


@cache
def _template_at(postgres: PostgresServer, revision: str) -> str:
    """An empty database at a revision, as a template for others."""
    name = postgres.create_database()
    engine = create_engine(
        make_url(postgres.url(name)).set(drivername="postgresql+psycopg"),
        connect_args={"password": postgres.password, "sslrootcert": str(postgres.authority_file)},
    )
    with engine.connect() as connection:
        history.upgrade(connection, silent, revision)
    engine.dispose()
    return name


def _database_at(postgres: PostgresServer, revision: str) -> str:
    return postgres.create_database(_template_at(postgres, revision))


# Use of every function


def _register(auth: httpx.Client, outside: Outside, email: str, **more: str) -> None:
    assert auth.post("/register", json={"email": email, **more}).status_code == 202
    assert auth.get("/verify", params={"token": outside.link_for(email)}).status_code == 303


def walk_auth(auth: httpx.Client, promote: Callable[[str], None], outside: Outside) -> None:
    """Call every function of auth at least once."""
    email, guest = (f"walker-{secrets.token_hex(4)}@example.com" for _ in range(2))
    _register(auth, outside, email, password=PASSWORD)
    auth.post("/refresh").raise_for_status()
    assert auth.post("/logout").status_code == 204
    assert auth.post("/login", json={"email": email, "password": "wrong"}).status_code == 401
    auth.post("/login", json={"email": email, "password": PASSWORD}).raise_for_status()
    assert auth.put("/password", json={"password": PASSWORD + "!"}).status_code == 204
    assert auth.post("/logout-all").status_code == 204
    promote(email)
    before = len(outside.mails_to(email))
    auth.post("/link", json={"email": email}).raise_for_status()
    until(lambda: len(outside.mails_to(email)) > before, "the second mail")
    auth.get("/verify", params={"token": outside.link_for(email)})
    handed_over = auth.post("/login/link", json={"email": email, "password": PASSWORD + "!"}).raise_for_status()
    with httpx.Client(base_url=auth.base_url, headers=auth.headers, trust_env=False, timeout=60) as elsewhere:
        response = elsewhere.get("/verify", params={"token": handed_over.json()["token"]})
        assert "/signin/confirm" in response.headers["location"]
    auth.get("/verify", params={"token": handed_over.json()["token"]})
    assert auth.get("/me").json()["role"] == "admin"
    auth.post("/invitations", json={"email": guest, "role": "customer"}).raise_for_status()
    auth.post("/verify", params={"token": outside.link_for(guest)})
    auth.post("/login", json={"email": email, "password": PASSWORD + "!"}).raise_for_status()
    found = auth.get("/users", params={"search": guest}).json()["items"]
    auth.patch(f"/users/{found[0]['id']}", json={"role": "admin"}).raise_for_status()
    assert auth.get("/audit").json()["total"] > 5


def walk_api(api: httpx.Client, outside: Outside) -> None:
    """Call every function of the api and its worker at least once, as an administrator."""
    assert api.get("/profile").status_code == 404
    api.put("/profile", json=PROFILE).raise_for_status()
    api.get("/profile").raise_for_status()
    ordered = {"headers": {"Idempotency-Key": "once-and-only-once"}}
    plan = api.post("/plans", **ordered).raise_for_status().json()
    assert api.post("/plans", **ordered).json()["id"] == plan["id"]
    _follow(api, plan["id"])
    tasks = api.get(f"/plans/{plan['id']}/tasks").json()["items"]
    api.patch(f"/tasks/{tasks[0]['id']}", json={"status": "doing"}).raise_for_status()
    outside.plan_faults.append(401)
    failed = api.post("/plans").raise_for_status().json()
    _follow(api, failed["id"])
    until(lambda: api.get("/admin/jobs", params={"state": "failed"}).json()["total"] == 1, "the job to fail")
    api.post(f"/admin/jobs/{failed['id']}/retry").raise_for_status()
    _follow(api, failed["id"])
    outside.seconds_per_chunk = 0.5
    stopped = api.post("/plans").raise_for_status().json()
    assert api.post("/plans").json()["id"] == stopped["id"], "one at a time"
    api.post(f"/plans/{stopped['id']}/cancel").raise_for_status()
    outside.seconds_per_chunk = 0.0
    for path in ("/plans", f"/plans/{plan['id']}", "/admin/plans", "/admin/queue"):
        api.get(path).raise_for_status()


def _follow(api: httpx.Client, plan_id: str) -> None:
    """Watch a plan until it is ready or has failed."""
    with api.stream("GET", f"/plans/{plan_id}/events") as events:
        for _ in events.iter_lines():
            pass


# The recorded statements


@pytest.fixture(scope="module")
def asked(
    postgres: PostgresServer,
    service_environment: dict[str, str],
    outside_server: Outside,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[list[Statement], set[str]]:
    """The statements of the present code on the present schema, and the functions that ran them."""
    return record(postgres, service_environment, outside_server, tmp_path_factory.mktemp("recording"), HEAD)


def record(
    postgres: PostgresServer, environment: dict[str, str], outside: Outside, folder: Path, revision: str
) -> tuple[list[Statement], set[str]]:
    """Start the services on a new database, use every function, and return their statements."""
    database = _database_at(postgres, revision)
    modules = {"auth": "/auth", "api": "/api", "api.worker": ""} if revision != "0001" else {"auth": "/auth"}
    common = {
        **environment,
        "DATABASE_URL": postgres.url(database),
        # The queue's keys contain the database's name, so other tests' workers do not read them.
        "REDIS_URL": environment["REDIS_URL"].removesuffix("/0") + "/5",
        "PYTHONPATH": f"{base_environment()['PYTHONPATH']}:{ROOT}",
    }

    def start(module: str, prefix: str) -> RunningProcess:
        own = {**common, "PORT": str(free_port()), "PATH_PREFIX": prefix}
        return launch(command(folder / f"{module}.notes", module), own, folder, module)

    def promote(email: str) -> None:
        own = {**common, "PORT": "3002", "PATH_PREFIX": "/auth"}
        task = launch([*command(folder / "promote.notes", "auth.promote"), email], own, folder, "promote")
        assert task.process.wait(60) == 0, task.log

    running = {module: start(module, prefix) for module, prefix in modules.items()}
    try:
        for module, process in running.items():
            wait_until_ready(process, "working on the queue" if module == "api.worker" else None)
        options: dict[str, Any] = {"trust_env": False, "timeout": 60}
        origin = {"Origin": running["auth"].url}
        with httpx.Client(base_url=f"{running['auth'].url}/auth", headers=origin, **options) as auth:
            walk_auth(auth, promote, outside)
            token = auth.cookies["alva_access"]
        if "api" in running:
            bearer = {"Authorization": f"Bearer {token}"}
            with httpx.Client(base_url=f"{running['api'].url}/api", headers=bearer, **options) as api:
                walk_api(api, outside)
    finally:
        codes = {module: process.stop() for module, process in running.items()}
    assert set(codes.values()) == {0}, codes
    notes = [read_notes(file) for file in folder.glob("*.notes")]
    statements = [statement for found, _ in notes for statement in found]
    return shorten(statements), {name for _, called in notes for name in called}


def test_every_function_with_a_database_query_is_recorded(asked: tuple[list[Statement], set[str]]) -> None:
    assert {*functions_of("auth"), *functions_of("api")} - asked[1] == set()


def test_recording_matches_the_present_code(asked: tuple[list[Statement], set[str]]) -> None:
    """With the next revision, this recording becomes that of the previous release."""
    if os.environ.get("ALVA_RECORD"):
        write(_recording(HEAD), asked[0])
    now, recorded = questions(asked[0]), questions(read(_recording(HEAD)))
    assert now == recorded, "ALVA_RECORD=1 ./alva test tests/apps/migrations/test_previous_release.py"


# Replay


@pytest.fixture
def replay_at(postgres: PostgresServer) -> Callable[..., list[str]]:
    """Replays a recording against a database at a revision, after a change to it."""

    def replay_recording(recording: str, revision: str, change: str = "") -> list[str]:
        with postgres.connect(_database_at(postgres, revision)) as connection:
            if change:
                connection.execute(change.encode())
            return replay(connection, read(_recording(recording)))

    return replay_recording


@pytest.mark.parametrize("revision", REVISIONS[1:])
def test_previous_release_works_after_a_revision(replay_at: Callable[..., list[str]], revision: str) -> None:
    before = REVISIONS[REVISIONS.index(revision) - 1]
    assert replay_at(before, revision) == [], f"{revision} removes something that the previous release uses"


def test_present_release_works_on_its_own_schema(replay_at: Callable[..., list[str]]) -> None:
    assert replay_at(HEAD, HEAD) == []


@pytest.mark.parametrize(
    "change",
    [
        "DROP TABLE api.tasks",
        "ALTER TABLE auth.users DROP COLUMN password_hash",
        "ALTER TABLE auth.users RENAME COLUMN email TO address",
        "ALTER TABLE auth.sessions ADD device text NOT NULL",
        "ALTER TABLE auth.links ALTER next SET NOT NULL",
        "ALTER TABLE api.tasks ALTER week TYPE text",
        "ALTER TABLE api.plans DROP CONSTRAINT plans_status_is_known, ADD CHECK (status <> 'cancelled')",
        "CREATE UNIQUE INDEX ON auth.sessions (user_id)",
    ],
)
def test_revision_that_removes_something_is_found(replay_at: Callable[..., list[str]], change: str) -> None:
    assert replay_at(HEAD, HEAD, change) != []


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE auth.users ADD name text",
        "ALTER TABLE auth.users ADD name text NOT NULL DEFAULT ''",
        "CREATE TABLE auth.devices (id uuid PRIMARY KEY)",
        "CREATE INDEX ON auth.sessions (client)",
        "ALTER TABLE api.plans ALTER progress TYPE integer",
    ],
)
def test_revision_that_only_adds_is_not(replay_at: Callable[..., list[str]], change: str) -> None:
    assert replay_at(HEAD, HEAD, change) == []
