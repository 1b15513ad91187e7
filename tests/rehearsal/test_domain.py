"""An environment that gets a domain: a host for each service, HTTPS, and redirects from HTTP."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from alva.release.public_endpoint import Answer, PublicEndpoint

from .environment import Rehearsal, rehearsal_in

DOMAIN = "alva.test"
HOSTS = {
    "web": f"staging.{DOMAIN}",
    "api": f"api-staging.{DOMAIN}",
    "auth": f"auth-staging.{DOMAIN}",
    "admin": f"admin-staging.{DOMAIN}",
}
HOMES = {"web": "/", "api": "/api", "auth": "/auth", "admin": "/admin"}
PATHS = {"web": "/", "api": "/api/x", "auth": "/auth/x", "admin": "/admin/x"}
NAME = '    name="staging",\n'

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """An environment that served at the load balancer's name, and then got a domain with the runbook's steps."""
    with rehearsal_in(tmp_path_factory.mktemp("domain")) as rehearsal:
        plain = rehearsal.alva("up")
        assert plain.returncode == 0, plain.stderr
        zone = rehearsal.client("route53").create_hosted_zone(Name=DOMAIN, CallerReference="once")["HostedZone"]
        setting = f'    domain=Domain(name="{DOMAIN}", hosted_zone_id="{zone["Id"].rpartition("/")[2]}"),\n'
        with rehearsal.replaced("infrastructure/lib/config/environments.py", NAME, NAME + setting):
            up = rehearsal.alva("up", "--json")
            assert up.returncode == 0, up.stderr
            yield rehearsal


@pytest.fixture(scope="module")
def endpoint(site: Rehearsal) -> PublicEndpoint:
    """The environment's public endpoint, with the authority that signed the load balancer's certificate."""
    address = urlsplit(site.url).netloc
    return PublicEndpoint(
        url=f"https://{HOSTS['web']}", address=address, ca_bundle=site.home / "state/certificates/trust-bundle.pem"
    )


def request(endpoint: PublicEndpoint, service: str, scheme: str = "https") -> Answer:
    return endpoint.fetch(f"{scheme}://{HOSTS[service]}{PATHS[service]}?x=1&y=2")


@pytest.mark.parametrize("service", HOSTS)
def test_http_redirects_to_https_on_the_same_host_and_path(endpoint: PublicEndpoint, service: str) -> None:
    answer = request(endpoint, service, "http")
    assert answer.status == 301
    to = urlsplit(answer.headers["location"])
    assert (to.scheme, to.hostname, to.path, to.query) == ("https", HOSTS[service], PATHS[service], "x=1&y=2")


@pytest.mark.parametrize("service", HOSTS)
def test_each_host_serves_its_service_over_https_with_hsts(endpoint: PublicEndpoint, service: str) -> None:
    answer = request(endpoint, service)
    assert answer.headers["x-alva-service"] == service
    assert answer.headers["strict-transport-security"] == "max-age=31536000"


def test_certificate_is_verified(endpoint: PublicEndpoint) -> None:
    strangers = PublicEndpoint(url=endpoint.url, address=endpoint.address)
    with pytest.raises(ssl.SSLCertVerificationError, match="self-signed certificate in certificate chain"):
        request(strangers, "web")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        endpoint.fetch(f"https://blog.{DOMAIN}/")


def test_load_balancers_own_name_serves_nothing(endpoint: PublicEndpoint) -> None:
    assert endpoint.fetch(f"https://{endpoint.address}/").status == 404


def test_deep_verification_passes_across_all_hosts(site: Rehearsal) -> None:
    verified = site.alva("verify", "--deep", "--json")
    checks = {check["check"]: check for check in json.loads(verified.stdout)}
    # A new alarm has no datapoints yet, so an alarm on missing data is in ALARM.
    failed = [name for name, check in checks.items() if check["verdict"] == "FAIL" and name != "alarms are quiet"]
    assert failed == [], verified.stdout
    for service, host in HOSTS.items():
        assert checks[f"{service} answers {HOMES[service]}"]["verdict"] == "OK"
        # The domain is not delegated to the region, so its names do not resolve on this machine.
        assert checks[f"{host} resolves to the load balancer"]["verdict"] == "WARN"
    assert checks["customer's journey"]["verdict"] == "OK", checks["customer's journey"]
