"""The region's own certificate authority. It issues the certificates of RDS, ElastiCache and the stand-ins.

Clients inside the region verify names and chains exactly as they do on AWS: the authority's certificate is mounted over
the image's RDS bundle, and is added to the machine's own authorities for all other connections.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFETIME = timedelta(days=3650)
_RENEWAL_MARGIN = timedelta(days=30)
_CHECK_SECONDS = 3600.0
_HOST_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True)
class Certificate:
    """A leaf certificate with its chain, and its private key, both PEM files."""

    certificate_file: Path
    key_file: Path


class CertificateAuthority:
    """Creates one authority in `folder` at first use and reuses it, so certificates remain valid after a restart."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._folder.mkdir(parents=True, exist_ok=True)
        self.authority_file = folder / "authority.pem"
        """The authority's certificate, PEM. It replaces the RDS CA bundle."""
        self.trust_bundle_file = folder / "trust-bundle.pem"
        """The machine's authorities and the region's, PEM. They replace ca-certificates.crt."""
        self._key_file = folder / "authority.key"
        self._check_at: dict[Certificate, float] = {}
        """When each issued certificate is read and verified again, by the monotonic clock."""
        if not self._is_made():
            self._make()
        self._key = serialization.load_pem_private_key(self._key_file.read_bytes(), password=None)
        self._certificate = x509.load_pem_x509_certificate(self.authority_file.read_bytes())
        _write(self.trust_bundle_file, _host_authorities() + self.authority_file.read_bytes(), 0o644)

    def issue(self, *names: str) -> Certificate:
        """A certificate valid for all of `names` (DNS names or IP addresses), reused while it has 30 days left.

        Raises ValueError without a name.
        """
        if not names:
            raise ValueError("a certificate needs at least one name")
        stem = hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]
        certificate = Certificate(self._folder / "issued" / f"{stem}.pem", self._folder / "issued" / f"{stem}.key")
        if time.monotonic() >= self._check_at.get(certificate, 0.0):
            if not self._is_current(certificate):
                self._issue(certificate, names)
            self._check_at[certificate] = time.monotonic() + _CHECK_SECONDS
        return certificate

    def _is_made(self) -> bool:
        return self._key_file.exists() and self.authority_file.exists()

    def _is_current(self, certificate: Certificate) -> bool:
        if not (certificate.certificate_file.exists() and certificate.key_file.exists()):
            return False
        issued = x509.load_pem_x509_certificate(certificate.certificate_file.read_bytes())
        try:
            issued.verify_directly_issued_by(self._certificate)
        except InvalidSignature:
            return False  # An earlier authority issued it.
        return issued.not_valid_after_utc - _RENEWAL_MARGIN > datetime.now(UTC)

    def _make(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name("Alva local region: certificate authority")
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(is_authority=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        _write(self._key_file, _private_pem(key), 0o600)
        _write(self.authority_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)

    def _issue(self, target: Certificate, names: Sequence[str]) -> None:
        assert isinstance(self._key, ec.EllipticCurvePrivateKey)  # noqa: S101 - what _make wrote
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(names[0]), self._certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(_key_usage(is_authority=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        target.key_file.parent.mkdir(exist_ok=True)
        chain = certificate.public_bytes(serialization.Encoding.PEM) + self.authority_file.read_bytes()
        _write(target.key_file, _private_pem(key), 0o600)
        _write(target.certificate_file, chain, 0o644)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _LIFETIME)
    )


def _key_usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    # A common name has at most 64 characters (RFC 5280); clients verify the alternative names.
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:64])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _host_authorities() -> bytes:
    """The machine's authorities as PEM; empty if it has none (a task then trusts only the region's)."""
    candidates = (os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *_HOST_BUNDLES)
    for candidate in candidates:
        if candidate:
            with contextlib.suppress(OSError):
                return Path(candidate).read_bytes().rstrip(b"\n") + b"\n"
    return b""


def _write(path: Path, content: bytes, mode: int) -> None:
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
    new.replace(path)
