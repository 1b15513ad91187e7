"""Requests to an environment go to the load balancer, for a host name, with its certificate verified."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from alva.release.public_endpoint import PublicEndpoint, find_addresses
from alva.release.verify import Verdict, Verification
from tests.apps.authority import Authority

HOST, OTHER = "staging.alva.test", "auth-staging.alva.test"


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/moved":
            self.send_response(303)
            self.send_header("Location", f"https://{OTHER}/there?x=1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = json.dumps({"host": self.headers["Host"], "path": self.path}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "Region")


@pytest.fixture
def endpoint(authority: Authority, tmp_path: Path) -> Iterator[PublicEndpoint]:
    """A load balancer on loopback whose certificate is for two hosts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    certificate = authority.issue(tmp_path, HOST, OTHER)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, certificate.with_suffix(".key"))
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield PublicEndpoint(url=f"https://{HOST}", address=f"127.0.0.1:{server.server_port}", ca_bundle=authority.file)
    server.shutdown()
    thread.join()
    server.server_close()


def test_host_without_a_dns_record_is_reached_at_the_load_balancer(endpoint: PublicEndpoint) -> None:
    answer = endpoint.fetch(f"https://{OTHER}/auth/x?y=1")
    assert json.loads(answer.body) == {"host": OTHER, "path": "/auth/x?y=1"}


def test_redirect_to_another_host_is_followed(endpoint: PublicEndpoint) -> None:
    with endpoint.opener().open(f"https://{HOST}/moved", timeout=20) as answer:
        assert (answer.geturl(), json.load(answer)["host"]) == (f"https://{OTHER}/there?x=1", OTHER)


def test_certificate_of_a_stranger_is_refused(endpoint: PublicEndpoint, tmp_path: Path) -> None:
    folder = tmp_path / "strangers"
    folder.mkdir()
    for bundle in (None, Authority(folder, "Strangers").file):
        with pytest.raises(ssl.SSLCertVerificationError):
            PublicEndpoint(url=endpoint.url, address=endpoint.address, ca_bundle=bundle).fetch(endpoint.url)


def test_certificate_for_another_host_is_refused(endpoint: PublicEndpoint) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        endpoint.fetch("https://blog.alva.test/")


@pytest.mark.parametrize(
    ("host", "address", "verdict", "reason"),
    [
        ("localhost", "127.0.0.1:8080", Verdict.OK, "127.0.0.1"),
        ("no-such-host.invalid", "127.0.0.1", Verdict.WARN, "the name does not resolve from here"),
        ("localhost", "127.9.9.9", Verdict.WARN, "not to 127.9.9.9"),
    ],
)
def test_names_are_resolved_separately(host: str, address: str, verdict: Verdict, reason: str) -> None:
    """A name that does not resolve, or resolves elsewhere, is a warning and does not fail the release."""
    asked = PublicEndpoint(url=f"https://{host}", address=address)
    found, said = Verification._resolves(asked, host)()
    assert (found, reason in said) == (verdict, True), said


def test_address_is_its_own_address() -> None:
    assert find_addresses("127.0.0.1") == {"127.0.0.1"}
