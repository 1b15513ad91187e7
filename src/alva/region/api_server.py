"""The server of AWS's APIs and of ECR's registry: HTTP and HTTPS at one port.

Docker and the AWS SDKs use HTTP. Other registry clients require TLS, and a repository has one address. So the first
byte of a connection decides: a TLS client begins with a handshake record (RFC 8446, section 5.1). Hypercorn then serves
the connection.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl

from hypercorn.asyncio.tcp_server import TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config
from hypercorn.utils import wrap_app

from alva.region.asgi import ASGIApplication
from alva.region.background import Background, end
from alva.region.certificates import Certificate
from alva.region.ports import port_in_use

BACKLOG = 100
KEEP_ALIVE_SECONDS = 75.0
HANDSHAKE_SECONDS = 10.0
STOP_SECONDS = 0.2
"""Time for requests that are being answered when the server stops."""
_TLS_HANDSHAKE = b"\x16"


def listen(port: int) -> socket.socket:
    """Listen at the API's port on loopback. Raises RegionFailed when it is in use."""
    # asyncio sets TCP_NODELAY for the connections only if the socket names its protocol (asyncio.base_events). Without
    # TCP_NODELAY, the second part of an answer waits up to 40 ms for the client's acknowledgement (tcp(7)).
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise port_in_use("start the local region", "127.0.0.1", port, "ALVA_API_PORT", error) from error
    listener.setblocking(False)
    return listener


class ApiServer:
    """Serves an application at `listener`, until `stop`."""

    def __init__(
        self, application: ASGIApplication, listener: socket.socket, certificate: Certificate, background: Background
    ) -> None:
        self._config = Config()
        self._config.keep_alive_timeout = KEEP_ALIVE_SECONDS
        self._config.loglevel = "WARNING"
        self._application = wrap_app(application, self._config.wsgi_max_body_size, "asgi")  # type: ignore[arg-type]
        self._listener = listener
        self._background = background
        self._context = WorkerContext(None)
        self._connections: set[asyncio.Task[None]] = set()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(certificate.certificate_file, certificate.key_file)
        self._tls.set_alpn_protocols(["http/1.1"])
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Accept connections."""
        self._accepting = self._background.run_forever("accept connections to the API", self._accept)

    async def stop(self) -> None:
        """Accept no more connections, and wait a moment for the requests that are being answered."""
        await end(self._accepting)
        self._listener.close()
        await self._context.terminated.set()
        if self._connections:
            await asyncio.wait(self._connections, timeout=STOP_SECONDS)
        await end(*self._connections)

    async def _accept(self) -> None:
        connection, _ = await asyncio.get_running_loop().sock_accept(self._listener)
        self._keep(self._background.spawn("open a connection to the API", self._open(connection)))

    async def _open(self, connection: socket.socket) -> None:
        """Begin to serve a connection, with TLS if the client begins with a handshake."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                is_tls = await _first_byte(connection) == _TLS_HANDSHAKE
            await loop.connect_accepted_socket(
                lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(loop=loop), self._serve, loop=loop),
                connection,
                ssl=self._tls if is_tls else None,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if is_tls else None,
            )
        except OSError:  # the client has disconnected, sends nothing, or does not trust the certificate
            connection.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._keep(task)
        await TCPServer(self._application, asyncio.get_running_loop(), self._config, self._context, {}, reader, writer)

    def _keep(self, task: asyncio.Task[None]) -> None:
        """Keep a reference to a task until it ends: the event loop keeps none."""
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)


async def _first_byte(connection: socket.socket) -> bytes:
    """The first byte that the client sends, which stays in the connection; nothing if it closes the connection."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    connection.setblocking(False)
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
    return connection.recv(1, socket.MSG_PEEK)
