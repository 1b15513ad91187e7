"""The customer's journey: the product's command runs here, and its exit code is the result."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alva.aws import Aws
from alva.release.deep_checks import DeepChecks
from alva.release.manifest import Manifest
from alva.release.public_endpoint import PublicEndpoint
from alva.release.verify import Verdict


def with_journey(aws: Aws, manifest: Manifest, command: tuple[str, ...] | None, **more: Any) -> DeepChecks:
    """The checks of the environment whose first service names this journey."""
    services = tuple(replace(service, journey_command=None) for service in manifest.services)
    services = (replace(services[0], journey_command=command), *services[1:])
    return DeepChecks(aws=aws, manifest=replace(manifest, services=services), root=Path(__file__).parent, **more)


ENDPOINT = PublicEndpoint(url="http://127.0.0.1:9", address="127.0.0.1:9")


@pytest.mark.parametrize(
    ("command", "verdict", "reason"),
    [
        (("python", "-c", "print('noise'); print('a plan in 3 s')"), Verdict.OK, "a plan in 3 s"),
        (("python", "-c", "raise SystemExit('cannot sign up: HTTP 500')"), Verdict.FAIL, "cannot sign up: HTTP 500"),
        ((sys.executable, "-c", "raise SystemExit(3)"), Verdict.FAIL, "ended with 3"),
        (("no-such-program",), Verdict.FAIL, "the program does not exist"),
        (None, Verdict.SKIP, "no service entry has a journey_command"),
    ],
    ids=["good", "bad", "bad without a word", "not there", "none"],
)
def test_journey_is_a_command_of_the_product(
    aws: Aws, manifest: Manifest, command: tuple[str, ...] | None, verdict: Verdict, reason: str
) -> None:
    checks = with_journey(aws, manifest, command, inbox_url="http://inbox")
    found, said = checks._journey(ENDPOINT, "verify-1@example.com")
    assert found is verdict
    assert reason in said


def test_journey_gets_the_products_urls_and_the_customers_address(aws: Aws, manifest: Manifest) -> None:
    names = ("BASE_URL", "LOAD_BALANCER", "API_URL", "INBOX_URL", "CUSTOMER_EMAIL")
    program = f"import os; print(*(os.environ[name] for name in {names}))"
    checks = with_journey(aws, manifest, ("python", "-c", program), inbox_url="http://inbox")
    assert checks._journey(ENDPOINT, "verify-1@example.com") == (
        Verdict.OK,
        "http://127.0.0.1:9 127.0.0.1:9 http://127.0.0.1:9 http://inbox verify-1@example.com",
    )


def test_journey_that_needs_mail_is_skipped_without_an_inbox(aws: Aws, manifest: Manifest) -> None:
    checks = with_journey(aws, manifest, ("python", "-c", "raise SystemExit(1)"))
    assert checks._journey(ENDPOINT, "a@example.com")[0] is Verdict.SKIP


def test_journey_runs_in_the_repositorys_root(aws: Aws, manifest: Manifest) -> None:
    program = "from pathlib import Path; print(Path.cwd())"
    checks = with_journey(aws, manifest, ("python", "-c", program), inbox_url="http://inbox")
    assert checks._journey(ENDPOINT, "a@example.com") == (Verdict.OK, str(Path(__file__).parent))
