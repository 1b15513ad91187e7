"""A copy of the project with its own environment: the operator's commands, and the users' requests."""

from __future__ import annotations

import functools
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from lib.config.services import SERVICES

from alva.region import daemon
from alva.region.config import RegionConfig
from tests.conftest import reserved_region_config

PROJECT = Path(__file__).resolve().parents[2]
COPIED = (
    "apps",
    "examples",
    "infrastructure",
    "src",
    "pyproject.toml",
    "uv.lock",
    "package.json",
    "package-lock.json",
    ".dockerignore",
)
PATHS = {
    service.name: f"{service.path_prefix}/x" if service.path_prefix else "/"
    for service in SERVICES
    if service.port is not None
}
"""Service -> a path that needs neither a session nor the database."""
NETWORK_STACK = "infrastructure/lib/stacks/network_stack.py"
DATABASE_RULE = 'self._ingress("RdsFromEcs", database, ecs, POSTGRESQL_PORT, POSTGRESQL_PORT, "PostgreSQL from tasks")'
"""The line of the network stack that lets tasks reach the database; `pass` in its place drops the rule."""


@dataclass(frozen=True)
class Rehearsal:
    """A copy of the project that tests can edit, with its own home and ports."""

    project: Path
    variables: dict[str, str] = field(repr=False)

    def alva(
        self, *arguments: str, timeout_seconds: float = 480, standard_input: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env={**self.environment, **variables},
            cwd=self.project,
            input=standard_input,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )

    @contextmanager
    def alva_running(self, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Iterator[dict[str, Any]]]]:
        """Run `./alva ... --json` in its own session, and yield its events as they arrive; the block's end stops it."""
        process = subprocess.Popen(
            self.command(*arguments, "--json"),
            env=self.environment,
            cwd=self.project,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stderr is not None
        try:
            yield process, (json.loads(line) for line in process.stderr if line.startswith("{"))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            process.stderr.close()

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-P", "-m", "alva", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.variables, "PYTHONPATH": str(self.project / "src")}

    @property
    def home(self) -> Path:
        return Path(self.variables["ALVA_HOME"])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.variables['ALVA_EDGE_PORT']}"

    @property
    def inbox(self) -> str:
        return f"http://127.0.0.1:{self.variables['ALVA_INBOX_PORT']}"

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.variables['ALVA_API_PORT']}"

    def client(self, service: str) -> Any:
        """A boto3 client of the region."""
        return _client(service, self.endpoint)

    @contextmanager
    def edited(self, name: str, content: str, *, append: bool = False) -> Iterator[None]:
        """The project with one file changed."""
        file = self.project / name
        before = file.read_text()
        file.write_text(before + content if append else content)
        try:
            yield
        finally:
            file.write_text(before)

    @contextmanager
    def replaced(self, name: str, old: str, new: str) -> Iterator[None]:
        """The project with one replacement in a file; the replaced text must occur exactly once."""
        text = (self.project / name).read_text()
        assert text.count(old) == 1, f"{name} has {text.count(old)} times {old!r}"
        with self.edited(name, text.replace(old, new)):
            yield

    def get(self, path: str) -> http.client.HTTPResponse:
        """One request through the load balancer, on a new connection."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            return response
        finally:
            connection.close()

    def digests(self) -> dict[str, str | None]:
        """Service -> the digest in its response through the load balancer."""
        return {name: self.get(path).headers["x-alva-digest"] for name, path in PATHS.items()}

    def tasks(self) -> dict[str, list[str]]:
        """Service -> its tasks."""
        status = json.loads(self.alva("status", "--json").stdout)
        return {service["name"]: [task["task"] for task in service["tasks"]] for service in status["services"]}

    @contextmanager
    def users(self) -> Iterator[list[str]]:
        """Request every service repeatedly in the block; return the failures."""
        problems: list[str] = []
        done = threading.Event()

        def send_requests() -> None:
            while not done.is_set():
                for service, path in PATHS.items():
                    try:
                        response = self.get(path)
                        served_by = response.headers["x-alva-service"]
                        if response.status >= 500 or served_by != service:
                            problems.append(f"{path}: HTTP {response.status} from {served_by}")
                    except (OSError, http.client.HTTPException) as error:
                        problems.append(f"{path}: {error!r}")
                done.wait(0.02)

        user = threading.Thread(target=send_requests)
        user.start()
        try:
            yield problems
        finally:
            done.set()
            user.join()


@functools.cache
def _client(service: str, endpoint: str) -> Any:
    # Created once: it takes 0.1 s of CPU time, and the tests of faults send hundreds of requests.
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    make_client: Any = session.client
    return make_client(service, endpoint_url=endpoint, config=Config(retries={"max_attempts": 0}))


def copy_of_the_project(folder: Path) -> Path:
    """The files that `./alva` needs, run with this checkout's installation."""
    folder.mkdir()
    for name in COPIED:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "cdk.out"))
        elif source.exists():
            shutil.copy2(source, folder / name)
    (folder / "node_modules").symlink_to(PROJECT / "node_modules")
    return folder


@contextmanager
def reserved_rehearsal(folder: Path, network: str = "") -> Iterator[tuple[Rehearsal, RegionConfig]]:
    """A rehearsal in `folder` with its own ports and addresses, and its region, which is not started; wiped at the end.

    `network`: the kind of network, as in `reserved_region_config`.
    """
    with reserved_region_config(folder / "alva" / ".alva", network) as config:
        rehearsal = Rehearsal(project=copy_of_the_project(folder / "alva"), variables=daemon.environment_of(config))
        try:
            yield rehearsal, config
        finally:
            rehearsal.alva("down", "--wipe", "--yes")


@contextmanager
def rehearsal_in(folder: Path, network: str = "") -> Iterator[Rehearsal]:
    """The same, for tests in which `./alva` starts the region; it is stopped at the end."""
    with reserved_rehearsal(folder, network) as (rehearsal, _):
        yield rehearsal
