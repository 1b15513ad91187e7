"""The bundle of certificate authorities with which the images verify databases."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509

BUNDLE = Path(__file__).parents[3] / "apps/common/certificates/rds-global-bundle.pem"
STAGING_REGION = "us-east-1"


def test_bundle_holds_the_staging_regions_authorities_for_at_least_a_year() -> None:
    certificates = x509.load_pem_x509_certificates(BUNDLE.read_bytes())
    in_a_year = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=365)
    names = {
        str(certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
        for certificate in certificates
        if certificate.not_valid_after_utc > in_a_year
    }
    for kind in ("RSA2048", "RSA4096", "ECC384"):
        assert f"Amazon RDS {STAGING_REGION} Root CA {kind} G1" in names
    assert len(names) == len(certificates)


def test_bundle_holds_authorities_only() -> None:
    for certificate in x509.load_pem_x509_certificates(BUNDLE.read_bytes()):
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.value.ca
        assert certificate.issuer == certificate.subject
