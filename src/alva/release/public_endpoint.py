"""The public endpoint of an environment: its load balancer, host names and TLS.

A request connects to the load balancer's address and sends the service's host name (`Host`, and SNI for https). A
release can so be verified before the DNS records of a new domain have propagated. A separate check resolves the names.
"""

from __future__ import annotations

import functools
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPS_PORT, HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from alva.aws import Aws
from alva.errors import AlvaError
from alva.release.manifest import Manifest, Service
from alva.release.stacks import Stacks

REQUEST_TIMEOUT_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, kw_only=True)
class PublicEndpoint:
    """The public endpoint of an environment. `url` is its home page's, without a trailing slash.

    `address` is the load balancer's own name, with a port unless it is the scheme's default. `ca_bundle` (PEM) verifies
    certificates; None means the machine's certificate authorities.
    """

    url: str
    address: str
    ca_bundle: Path | None = None

    @classmethod
    def of(cls, aws: Aws, manifest: Manifest) -> PublicEndpoint:
        """Read the endpoint from the load balancer's stack; raises AlvaError when nothing is deployed."""
        alb = Stacks(aws).observe(manifest.stack("alb").name, with_template=False)
        if alb is None or "Url" not in alb.outputs:
            raise AlvaError("cannot verify: nothing is deployed yet", next_step="./alva deploy")
        url = alb.outputs["Url"].rstrip("/")
        # Stacks older than this output use the load balancer's own name.
        address = alb.outputs.get("Address", urlsplit(url).netloc)
        return cls(url=url, address=address, ca_bundle=aws.target.ca_bundle)

    def base(self, service: Service) -> str:
        """Return the service's base URL for browsers, without its path prefix and without a trailing slash."""
        return self.url if service.host is None else f"{urlsplit(self.url).scheme}://{service.host}"

    def fetch(self, url: str) -> Answer:
        """GET one URL without following redirects. Raises OSError or HTTPException without an answer."""
        parts = urlsplit(url)
        connection = self.connect(parts.scheme, parts.netloc)
        path = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        try:
            connection.request("GET", path, headers={"User-Agent": "alva-verify", "Accept": "text/html"})
            response = connection.getresponse()
            return Answer(
                status=response.status,
                headers={name.lower(): value for name, value in response.getheaders()},
                body=response.read(65536).decode(errors="replace"),
            )
        finally:
            connection.close()

    def opener(self, *handlers: Any) -> OpenerDirector:
        """Return an opener (urllib.request) for this environment's URLs, which follows its redirects."""
        return build_opener(_Handler(self), *handlers)

    def connect(self, scheme: str, host: str, timeout_seconds: float = REQUEST_TIMEOUT_SECONDS) -> HTTPConnection:
        """Return a connection to the load balancer for `host`, not yet opened."""
        if scheme == "https":
            return _SecureConnection(host, address=self.address, context=self._context, timeout=timeout_seconds)
        return _Connection(host, address=self.address, timeout=timeout_seconds)

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca_bundle) if self.ca_bundle else None)


def find_addresses(host: str) -> frozenset[str]:
    """Return the IP addresses of a name. Raises OSError if it does not resolve."""
    return frozenset(str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))


class _Connection(HTTPConnection):
    """A connection to `address`, for the URL's host."""

    def __init__(self, host: str, *, address: str, timeout: float) -> None:
        super().__init__(host, timeout=timeout)
        self._address = urlsplit(f"//{address}")

    def connect(self) -> None:
        where = (self._address.hostname, self._address.port or self.default_port)
        self.sock = socket.create_connection(where, timeout=self.timeout)


class _SecureConnection(_Connection):
    default_port = HTTPS_PORT

    def __init__(self, host: str, *, address: str, context: ssl.SSLContext, timeout: float) -> None:
        super().__init__(host, address=address, timeout=timeout)
        self._tls = context

    def connect(self) -> None:
        super().connect()
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)


class _Handler(HTTPHandler, HTTPSHandler):
    """Opens http and https URLs at the load balancer."""

    def __init__(self, endpoint: PublicEndpoint) -> None:
        super().__init__()
        self._endpoint = endpoint

    def http_open(self, request: Request) -> Any:
        return self.do_open(self._connection("http"), request)

    def https_open(self, request: Request) -> Any:
        return self.do_open(self._connection("https"), request)

    def _connection(self, scheme: str) -> Any:
        return lambda host, *, timeout, **_: self._endpoint.connect(scheme, host, timeout)
