"""Names, addresses and certificates of the region."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from pathlib import Path

import pytest

from alva.errors import SubnetFull
from alva.region.addresses import Addresses
from alva.region.certificates import CertificateAuthority
from alva.region.config import RegionConfig
from alva.region.names import Names


def test_addresses_mirror_their_subnet_and_leave_out_what_aws_reserves(tmp_path: Path) -> None:
    addresses = Addresses(RegionConfig(home=tmp_path, loopback_octet=33))
    assert [addresses.allocate("10.0.10.0/24") for _ in range(3)] == ["127.33.10.4", "127.33.10.5", "127.33.10.6"]
    assert addresses.allocate("10.0.11.0/24") == "127.33.11.4"
    addresses.release("127.33.10.5")
    addresses.reserve("127.33.10.7")
    assert [addresses.allocate("10.0.10.0/24") for _ in range(2)] == ["127.33.10.5", "127.33.10.8"]


def test_full_subnet_is_an_error(tmp_path: Path) -> None:
    addresses = Addresses(RegionConfig(home=tmp_path))
    taken = [addresses.allocate("10.0.10.16/28") for _ in range(11)]
    assert (taken[0], taken[-1]) == ("127.20.10.20", "127.20.10.30")
    with pytest.raises(SubnetFull, match=r"cannot place a network interface: subnet 10\.0\.10\.16/28 has no free"):
        addresses.allocate("10.0.10.16/28")


def test_address_of_a_subnet_can_be_bound_on_this_machine(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind((Addresses(RegionConfig(home=tmp_path)).allocate("10.0.255.0/24"), 0))


def test_names_file_contains_exactly_the_published_names(tmp_path: Path) -> None:
    names = Names(tmp_path / "names")
    names.publish("api.alva.local", ["127.20.10.4", "127.20.11.4"])
    names.publish("auth.alva.local", ["127.20.10.5"])
    names.publish("api.alva.local", ["127.20.10.9"])
    assert names.resolve("api.alva.local") == ("127.20.10.9",)
    names.withdraw("auth.alva.local")
    names.withdraw("auth.alva.local")
    names.publish("web.alva.local", [])
    assert names.resolve("auth.alva.local") == names.resolve("web.alva.local") == ()
    lines = (names.folder / "hosts").read_text().splitlines()
    assert [line for line in lines if "alva" in line] == ["127.20.10.9 api.alva.local"]
    assert "127.0.0.1 localhost" in lines


def test_hosts_file_is_replaced_and_never_half_written(tmp_path: Path) -> None:
    names = Names(tmp_path / "names")
    before = (names.folder / "hosts").stat().st_ino
    names.publish("a.b", ["127.20.0.1"])
    assert (names.folder / "hosts").stat().st_ino != before
    assert [entry.name for entry in names.folder.iterdir()] == ["hosts"]


def handshake(authority: CertificateAuthority, issued_for: tuple[str, ...], asked_for: str, trust: Path) -> None:
    """One TLS handshake over a socket pair, the client verifying fully."""
    certificate = authority.issue(*issued_for)
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_context.load_cert_chain(certificate.certificate_file, certificate.key_file)
    client_context = ssl.create_default_context(cafile=str(trust))
    client, server = socket.socketpair()

    def serve() -> None:
        try:
            with server_context.wrap_socket(server, server_side=True) as stream:
                stream.recv(1)
        except OSError:
            server.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_context.wrap_socket(client, server_hostname=asked_for) as stream:
            stream.send(b"x")
    finally:
        client.close()
        thread.join()


@pytest.mark.parametrize("asked_for", ["db.abc.us-east-1.rds.amazonaws.com", "127.20.20.4"])
def test_clients_verify_name_and_address_by_either_bundle(tmp_path: Path, asked_for: str) -> None:
    authority = CertificateAuthority(tmp_path)
    names = ("db.abc.us-east-1.rds.amazonaws.com", "127.20.20.4")
    handshake(authority, names, asked_for, authority.authority_file)
    handshake(authority, names, asked_for, authority.trust_bundle_file)


def test_other_names_and_other_authorities_are_refused(tmp_path: Path) -> None:
    authority, other = CertificateAuthority(tmp_path / "one"), CertificateAuthority(tmp_path / "other")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(authority, ("a.example",), "b.example", authority.authority_file)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(authority, ("a.example",), "a.example", other.authority_file)


def test_authority_and_certificates_survive_a_restart(tmp_path: Path) -> None:
    first = CertificateAuthority(tmp_path)
    issued = first.issue("a.example").certificate_file.read_bytes()
    second = CertificateAuthority(tmp_path)
    assert second.authority_file.read_bytes() == first.authority_file.read_bytes()
    assert second.issue("a.example").certificate_file.read_bytes() == issued
    handshake(second, ("a.example",), "a.example", first.authority_file)


def test_private_keys_are_closed_to_others_and_trust_is_open(tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    certificate = authority.issue("a.example")
    assert certificate.key_file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "authority.key").stat().st_mode & 0o777 == 0o600
    for readable in (authority.authority_file, authority.trust_bundle_file, certificate.certificate_file):
        assert readable.stat().st_mode & 0o777 == 0o644


def test_trust_bundle_holds_this_machines_authorities_too(tmp_path: Path) -> None:
    host = next(Path(path) for path in (os.environ.get("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt") if path)
    if not host.exists():
        pytest.skip("this machine has no authorities")
    bundle = CertificateAuthority(tmp_path).trust_bundle_file.read_text()
    assert bundle.count("BEGIN CERTIFICATE") == host.read_text().count("BEGIN CERTIFICATE") + 1
