"""A customer, and an api with its own cache and workers, which a test can kill without effect on other tests."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
import redis

from common.tokens import public_jwk, read_public_key
from tests.apps.conftest import (
    KeyPair,
    Outside,
    PostgresServer,
    RunningProcess,
    launch,
    start_process,
    start_valkey,
    wait_until_ready,
)
from tests.ports import free_port
from tests.waiting import until

PROFILE = {
    "business_name": "Crumb & Co",
    "industry": "Bakery",
    "audience": "People who live nearby",
    "goals": ["More guests on weekdays"],
    "location": "Ghent",
    "budget_per_month": 300,
    "channels": ["Instagram"],
}

# Shorter delays for the tests. Everything else is as in the worker's container.
HASTY_WORKER = """
import asyncio
from common import startup
with startup.without_garbage_collection():
    from api.settings import WorkerSettings
    from api.worker import run
    from common.process import load_or_exit
settings = load_or_exit(WorkerSettings)
times = dict(lockDuration={lock_milliseconds}, stalledInterval=1000)
asyncio.run(run(settings, finish_seconds={finish_seconds}, reconcile_seconds=1, count_seconds=1, **times))
"""


def sign_token(keys: KeyPair, role: str = "customer", user_id: str | None = None) -> dict[str, str]:
    """Return the headers of a signed-in user."""
    now = int(time.time())
    claims = {"iss": "alva-auth", "aud": "alva", "sub": user_id or str(uuid.uuid4()), "email": "somebody@example.com"}
    claims |= {"role": role, "sid": str(uuid.uuid4())}
    head = {"typ": "at+jwt", "kid": public_jwk(read_public_key(keys.public))["kid"]}
    token = jwt.encode({**claims, "iat": now, "exp": now + 600}, keys.signing_key, "RS256", headers=head)
    return {"Authorization": f"Bearer {token}"}


def order_plan(client: httpx.Client, **headers: str) -> dict[str, Any]:
    """Order a plan."""
    answer = client.post("/plans", headers=headers)
    assert answer.status_code == 202, answer.text
    plan: dict[str, Any] = answer.json()
    return plan


def wait_for(client: httpx.Client, plan_id: str, status: str) -> dict[str, Any]:
    """The plan once it has a status."""

    def plan() -> dict[str, Any] | None:
        body: dict[str, Any] = client.get(f"/plans/{plan_id}").json()
        return body if body["status"] == status else None

    return until(plan, f"the plan to be {status}")


@pytest.fixture
def customer(api: RunningProcess, keys: KeyPair) -> Iterator[httpx.Client]:
    """A customer with a profile, as a client of the api."""
    with httpx.Client(base_url=f"{api.url}/api", headers=sign_token(keys), trust_env=False) as client:
        assert client.put("/profile", json=PROFILE).status_code == 200
        yield client


@dataclass
class Laboratory:
    """An api with its own cache, and workers that a test starts and stops."""

    environment: dict[str, str]
    folder: Path
    customer: httpx.Client
    admin: httpx.Client
    valkey: subprocess.Popen[bytes]
    workers: list[RunningProcess] = field(default_factory=list)

    @property
    def cache_port(self) -> int:
        return int(self.environment["REDIS_URL"].rpartition(":")[2].partition("/")[0])

    def start_worker(self, *, finish_seconds: float = 10, lock_milliseconds: int = 30_000) -> RunningProcess:
        """A worker with two delays: from SIGTERM to the return of its job, and from its death to the job's recovery."""
        code = HASTY_WORKER.format(finish_seconds=finish_seconds, lock_milliseconds=lock_milliseconds)
        worker = launch([sys.executable, "-c", code], self.environment, self.folder, "worker")
        self.workers.append(worker)
        wait_until_ready(worker, "working on the queue")
        return worker

    @property
    def database_name(self) -> str:
        return self.environment["DATABASE_URL"].rpartition("/")[2].partition("?")[0]

    def stop_cache(self) -> None:
        self.valkey.kill()
        self.valkey.wait()

    def start_cache(self) -> None:
        self.valkey = start_valkey(self.cache_port, self.environment["REDIS_PASSWORD"], self.folder / "valkey")


@pytest.fixture(scope="module")
def laboratory_server(
    service_environment: dict[str, str],
    postgres: PostgresServer,
    keys: KeyPair,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Laboratory]:
    """The api and the cache. They are shared by the tests; their data is deleted after each test."""
    folder = tmp_path_factory.mktemp("laboratory")
    password, port = secrets.token_urlsafe(24), free_port()
    (folder / "valkey").mkdir()
    valkey = start_valkey(port, password, folder / "valkey")
    own_database = postgres.create_database()
    environment = {
        **service_environment,
        "REDIS_URL": f"redis://127.0.0.1:{port}/0",
        "REDIS_PASSWORD": password,
        "DATABASE_URL": postgres.url(own_database),
        "PORT": str(free_port()),
        "PATH_PREFIX": "/api",
    }
    subprocess.run([sys.executable, "-m", "migrations"], env=environment, check=True, capture_output=True)
    api = start_process("api", environment, folder)
    with (
        httpx.Client(base_url=f"{api.url}/api", headers=sign_token(keys), trust_env=False, timeout=60) as customer,
        httpx.Client(
            base_url=f"{api.url}/api/admin", headers=sign_token(keys, "admin"), trust_env=False, timeout=60
        ) as admin,
    ):
        laboratory = Laboratory(environment, folder, customer, admin, valkey)
        yield laboratory
    assert api.stop() == 0, api.log[-3000:]
    laboratory.stop_cache()


@pytest.fixture
def laboratory(laboratory_server: Laboratory, postgres: PostgresServer, outside: Outside) -> Iterator[Laboratory]:
    """The laboratory with a customer and without plans, jobs and workers."""
    del outside  # only its faults are cleared at the end
    laboratory = laboratory_server
    if laboratory.valkey.poll() is not None:
        laboratory.start_cache()
    with redis.Redis(port=laboratory.cache_port, password=laboratory.environment["REDIS_PASSWORD"]) as cache:
        cache.flushall()
    with postgres.connect(laboratory.database_name) as connection:
        connection.execute("TRUNCATE api.profiles, api.plans CASCADE")
    laboratory.workers.clear()
    assert laboratory.customer.put("/profile", json=PROFILE).status_code == 200
    yield laboratory
    for worker in laboratory.workers:
        if worker.process.poll() is None:
            assert worker.stop(seconds=60) == 0, worker.log[-3000:]
