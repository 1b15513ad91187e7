"""An unmodified MiniStack for the parts of the engine that need AWS's API but no data plane."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from alva.aws import Aws, Poll, Target
from alva.release.manifest import Manifest
from tests.ports import free_port
from tests.waiting import until


@contextmanager
def ministack(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a MiniStack process that writes into the folder, and yield its address; the block's end stops it."""
    port = free_port()
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ministack"],
            env={
                **os.environ,
                "BIND_HOST": "127.0.0.1",
                "GATEWAY_PORT": str(port),
                "IOT_MTLS_ENABLED": "0",
                "SFTP_ENABLED": "0",
                "MINISTACK_ACCOUNT_ID": "000000000000",
            },
            cwd=log.parent,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def listens() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    try:
        until(listens, "MiniStack to listen")
        yield f"http://127.0.0.1:{port}", process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="session")
def endpoint_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a MiniStack process that runs as long as the tests."""
    with ministack(tmp_path_factory.mktemp("ministack")) as (url, _):
        yield url


@pytest.fixture
def aws(endpoint_url: str) -> Aws:
    """Clients for that endpoint, with short poll intervals."""
    return Aws(Target.local(endpoint_url), Poll(shortest_seconds=0.02, longest_seconds=0.1))


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"t-{uuid.uuid4().hex[:10]}"


@pytest.fixture
def manifest(name: str, tmp_path: Path) -> Manifest:
    """An environment with two services and one secret of each kind."""
    return Manifest.from_values(manifest_values(name), tmp_path)


def manifest_values(prefix: str) -> dict[str, object]:
    """`alva.json` as the CDK app writes it, for an environment called `prefix`."""

    def stack(short: str, phase: str, *depends_on: str) -> dict[str, object]:
        return {
            "name": f"{prefix}-{short}",
            "short_name": short,
            "template": f"{prefix}-{short}.template.json",
            "depends_on": [f"{prefix}-{other}" for other in depends_on],
            "phase": phase,
        }

    def service(short: str, port: int, paths: list[str]) -> dict[str, object]:
        return {
            "name": short,
            "service": f"alva-{short}",
            "repository": f"{prefix}-{short}",
            "dockerfile": f"apps/{short}/Dockerfile",
            "port": port,
            "paths": paths,
            "host": None,
            "health_path": "/health",
            "log_group": f"/{prefix}/{short}",
            "image_parameter": f"{short.capitalize()}ImageDigest",
        }

    return {
        "environment": "test",
        "prefix": prefix,
        "region": "us-east-1",
        "cluster": f"{prefix}-cluster",
        "namespace": f"{prefix}.local",
        "load_balancer": f"{prefix}-alb",
        "dashboard": prefix,
        "alarm_prefix": f"{prefix}-",
        "alarms": {f"{prefix}-api-errors": "api"},
        "parameters": {
            "lock": f"/{prefix}/lock",
            "releases": f"/{prefix}/release",
            "causes": f"/{prefix}/why",
            "secrets": f"/{prefix}/secrets",
            "asleep": f"/{prefix}/asleep",
        },
        "tags": {"Project": "alva"},
        "stacks": [
            stack("network", "data"),
            stack("registry", "registry"),
            stack("secrets", "data"),
            stack("database", "data", "network", "secrets"),
            stack("alb", "data", "network"),
            stack("ecs", "data", "network", "registry", "database"),
            stack("services", "services", "ecs", "alb"),
            stack("monitoring", "after", "services"),
        ],
        "services": [service("web", 3000, ["/*"]), service("api", 3001, ["/api", "/api/*"])],
        "migration": {
            "family": "alva-migrations",
            "container": "migrations",
            "service": "api",
            "image_parameter": "MigrationsImageDigest",
            "stack": f"{prefix}-ecs",
        },
        "secrets": [
            {
                "name": f"{prefix}-jwt-private-key",
                "short_name": "jwt-private-key",
                "kind": "rsa-private-key",
                "used_by": ["auth"],
            },
            {
                "name": f"{prefix}-jwt-public-key",
                "short_name": "jwt-public-key",
                "kind": "rsa-public-key",
                "used_by": ["auth", "api"],
            },
            {"name": f"{prefix}-cookie-secret", "short_name": "cookie-secret", "kind": "random", "used_by": ["auth"]},
            {"name": f"{prefix}-openai-api-key", "short_name": "openai-api-key", "kind": "api-key", "used_by": ["api"]},
        ],
    }
