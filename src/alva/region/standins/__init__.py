"""Stand-ins for the two external APIs, OpenAI and Resend, for tasks of the local region, and the inbox.

Both are served by the region's own process. Inside tasks their names resolve to addresses where Envoy terminates TLS
with a certificate of the region's authority, so client libraries connect and verify as usual. In a network with real
addresses, both are outside the VPC: a task reaches them if its security groups allow it and it has a route to the
internet.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alva.region.network.namespace import stream_socket
from alva.region.ports import port_in_use
from alva.region.standins.faults import Faults

if TYPE_CHECKING:
    from alva.region.region import Region
    from alva.region.standins.mailbox import Mailbox

logger = logging.getLogger(__name__)

OPENAI_NAME = "api.openai.com"
RESEND_NAME = "api.resend.com"
PLAIN_PORT = 8080
"""The port without TLS on a stand-in's address."""


class StandIns:
    """Serves `api.openai.com`, `api.resend.com` and the inbox page on 127.0.0.1:<inbox_port>."""

    def __init__(self, region: Region) -> None:
        self._region = region
        # With namespaces, addresses for documentation (RFC 5737), which are not in use anywhere.
        block = "198.51.100" if region.network.is_enforced else f"127.{region.config.loopback_octet}.255"
        self._addresses = {OPENAI_NAME: f"{block}.10", RESEND_NAME: f"{block}.11"}
        self.faults = Faults()
        self.problem: str | None = None
        """Why tasks cannot reach the stand-ins; empty if they can."""
        self._mailbox: Mailbox | None = None
        self._stopping = asyncio.Event()
        self._servers: list[asyncio.Task[None]] = []

    def install(self) -> None:
        """Do nothing: the stand-ins are not part of AWS's API."""

    async def start(self) -> None:
        """Serve the stand-ins and the inbox, and publish the names.

        Raises RegionFailed when the inbox's port is in use. Without the permission to listen on port 443 (not root, and
        net.ipv4.ip_unprivileged_port_start above 443) the region serves everything else, and `problem` has the next
        step.
        """
        from alva.region.standins import inbox, openai_api, resend_api
        from alva.region.standins.mailbox import Mailbox

        self._stopping = asyncio.Event()
        self._mailbox = Mailbox(self._region.config.state_folder / "inbox.sqlite")
        applications = {
            OPENAI_NAME: openai_api.application(self.faults),
            RESEND_NAME: resend_api.application(self._mailbox, self.faults),
        }
        if not can_listen_on(443):
            self.problem = (
                f"cannot serve {OPENAI_NAME} and {RESEND_NAME} to tasks: port 443 is for root"
                " (next: sudo sysctl net.ipv4.ip_unprivileged_port_start=443)"
            )
            logger.warning("%s", self.problem)
        page = inbox.application(self._mailbox, self.faults, self.problem)
        self._serve(page, _listen(stream_socket(), "127.0.0.1", self._region.config.inbox_port))
        await self._region.network.serve_outside(tuple(self._addresses.values()), (PLAIN_PORT,))
        for name, application in applications.items():
            address = self._addresses[name]
            self._serve(application, _listen(self._region.network.socket(), address, PLAIN_PORT))
            self._region.names.publish(name, [address])
            if self.problem is None:
                certificate = self._region.certificates.issue(name)
                self._region.load_balancers.tls_proxy(name, address, 443, address, PLAIN_PORT, certificate)

    async def stop(self) -> None:
        """Stop serving, and keep the mails."""
        for name in self._addresses:
            self._region.load_balancers.remove_tls_proxy(name)
            self._region.names.withdraw(name)
        self._stopping.set()
        servers, self._servers = self._servers, []
        await asyncio.gather(*servers, return_exceptions=True)
        if self._mailbox is not None:
            self._mailbox.close()
            self._mailbox = None

    def _serve(self, application: Callable[..., Any], listener: socket.socket) -> None:
        from hypercorn.asyncio import serve
        from hypercorn.config import Config

        address, port = listener.getsockname()
        config = Config()
        config.bind = [f"fd://{listener.detach()}"]
        config.loglevel = "WARNING"
        config.keep_alive_timeout = 75
        # A requested timeout must not delay the region's stop.
        config.graceful_timeout = 0.2
        config.shutdown_timeout = 0.5
        work = serve(application, config, shutdown_trigger=self._stopping.wait)
        self._servers.append(self._region.background.spawn(f"serve the stand-in at {address}:{port}", work))


def can_listen_on(port: int) -> bool:
    """Whether this process may listen on a port below 1024 (ip(7))."""
    if os.geteuid() == 0:
        return True
    start = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    return start.exists() and int(start.read_text()) <= port


def _listen(listener: socket.socket, address: str, port: int) -> socket.socket:
    """Bind a socket in its network namespace."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise
        variable = "ALVA_INBOX_PORT" if address == "127.0.0.1" else "ALVA_LOOPBACK_OCTET"
        raise port_in_use("start the local region", address, port, variable, error) from error
    return listener
