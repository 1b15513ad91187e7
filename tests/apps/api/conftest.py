"""A customer, and a laboratory where cache and workers may be killed without hurting other tests."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.apps.conftest import (
    KeyPair,
    Outside,
    PostgresServer,
    RunningProcess,
    die_with_parent,
    free_port,
    start_process,
    start_valkey,
    wait_until,
)

PROFILE = {
    "business_name": "Crumb & Co",
    "industry": "Bakery",
    "audience": "People who live nearby",
    "goals": ["More guests on weekdays"],
    "location": "Ghent",
    "budget_per_month": 300,
    "channels": ["Instagram"],
}

# The delays that a test cannot wait for, shortened; everything else as in the worker's container.
HASTY_WORKER = """
import asyncio
from api.settings import WorkerSettings
from api.worker import run
from kit.process import load_or_exit
settings = load_or_exit(WorkerSettings)
asyncio.run(run(settings, finish_seconds=1, reconcile_seconds=1, lockDuration=2000, stalledInterval=1000))
"""


def sign_token(keys: KeyPair, role: str = "customer", user_id: str | None = None) -> dict[str, str]:
    """Headers of somebody whom auth signed in."""
    now = int(time.time())
    claims = {"iss": "alva-auth", "aud": "alva", "sub": user_id or str(uuid.uuid4()), "email": "somebody@example.com"}
    claims |= {"role": role, "sid": str(uuid.uuid4())}
    token = jwt.encode({**claims, "iat": now, "exp": now + 600}, keys.private, "RS256", headers={"typ": "at+jwt"})
    return {"Authorization": f"Bearer {token}"}


def ask(client: httpx.Client, **headers: str) -> dict[str, Any]:
    """Ask for a plan."""
    answer = client.post("/plans", headers=headers)
    assert answer.status_code == 202, answer.text
    plan: dict[str, Any] = answer.json()
    return plan


def wait_for(client: httpx.Client, plan_id: str, status: str, seconds: float = 20) -> dict[str, Any]:
    """Wait for a plan to have a status."""

    def plan() -> dict[str, Any]:
        body: dict[str, Any] = client.get(f"/plans/{plan_id}").json()
        return body

    wait_until(lambda: plan()["status"] == status, f"the plan to be {status}", seconds)
    return plan()


@pytest.fixture
def customer(api: RunningProcess, keys: KeyPair) -> Iterator[httpx.Client]:
    """A customer with a profile, as a client of the api."""
    with httpx.Client(base_url=f"{api.url}/api", headers=sign_token(keys), trust_env=False) as client:
        assert client.put("/profile", json=PROFILE).status_code == 200
        yield client


@dataclass
class Laboratory:
    """An api with a cache of its own, and workers that come and go."""

    environment: dict[str, str]
    folder: Path
    customer: httpx.Client
    admin: httpx.Client
    valkey: subprocess.Popen[bytes]
    workers: list[RunningProcess] = field(default_factory=list)

    @property
    def cache_port(self) -> int:
        return int(self.environment["REDIS_URL"].rpartition(":")[2].partition("/")[0])

    def start_worker(self) -> RunningProcess:
        log_file = self.folder / f"worker-{secrets.token_hex(3)}.log"
        with log_file.open("wb") as log:
            command = [sys.executable, "-c", HASTY_WORKER]
            process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=log, preexec_fn=die_with_parent
            )
        worker = RunningProcess(process, log_file)
        self.workers.append(worker)
        wait_until(lambda: "working on the queue" in worker.log, "a worker")
        return worker

    def stop_cache(self) -> None:
        self.valkey.kill()
        self.valkey.wait()

    def start_cache(self) -> None:
        self.valkey = start_valkey(self.cache_port, self.environment["REDIS_PASSWORD"], self.folder / "valkey")


@pytest.fixture
def laboratory(
    service_environment: dict[str, str],
    postgres: PostgresServer,
    keys: KeyPair,
    tmp_path: Path,
    outside: Outside,
) -> Iterator[Laboratory]:
    del outside  # only its faults are cleared afterwards
    password, port = secrets.token_urlsafe(24), free_port()
    (tmp_path / "valkey").mkdir()
    valkey = start_valkey(port, password, tmp_path / "valkey")
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
    api = start_process("api", environment, tmp_path)
    with (
        httpx.Client(base_url=f"{api.url}/api", headers=sign_token(keys), trust_env=False) as customer,
        httpx.Client(base_url=f"{api.url}/api/admin", headers=sign_token(keys, "admin"), trust_env=False) as admin,
    ):
        customer.put("/profile", json=PROFILE)
        laboratory = Laboratory(environment, tmp_path, customer, admin, valkey)
        yield laboratory
    for worker in laboratory.workers:
        if worker.process.poll() is None:
            assert worker.stop() == 0, worker.log[-3000:]
    assert api.stop() == 0, api.log[-3000:]
    laboratory.stop_cache()


def eventually(is_true: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """`wait_until`, for what an api that is being disturbed answers."""

    def holds() -> bool:
        try:
            return is_true()
        except (httpx.TransportError, KeyError, ValueError):
            return False

    wait_until(holds, what, seconds)
