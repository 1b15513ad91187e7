"""A Node service replaces one of the four Python services, with all of its functions."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from .conftest import Rehearsal
from .test_flow import sign_up

SOURCE = Path(__file__).parent / "node_admin"
FILES = ("Dockerfile", "server.mjs", "settings.mjs", "healthcheck.mjs")
ADMIN_SERVICE = 'host_label="admin-{}",\n        health_command=COMMON_HEALTH_COMMAND,\n'
OTHER_SERVICE = 'host_label="admin-{}",\n        health_command=("node", "healthcheck.mjs"),\n'

pytestmark = pytest.mark.nightly


@contextmanager
def admin_in_node(rehearsal: Rehearsal) -> Iterator[None]:
    """The project with the Node service in admin's folder."""
    folder = rehearsal.project / "apps" / "admin"
    settings = rehearsal.project / "infrastructure" / "lib" / "config" / "services.py"
    text, dockerfile = settings.read_text(), (folder / "Dockerfile").read_text()
    assert text.count(ADMIN_SERVICE) == 1
    for name in FILES:
        shutil.copy2(SOURCE / name, folder / name)
    settings.write_text(text.replace(ADMIN_SERVICE, OTHER_SERVICE))
    try:
        yield
    finally:
        settings.write_text(text)
        for name in FILES:
            (folder / name).unlink()
        (folder / "Dockerfile").write_text(dockerfile)


@pytest.fixture(scope="module")
def released(rehearsal: Rehearsal) -> Iterator[dict[str, str]]:
    """Release admin as a Node image; yield the digest by service. The Python version is restored at the end."""
    with admin_in_node(rehearsal):
        up = rehearsal.alva("up", "--json")
        assert up.returncode == 0, up.stderr
        yield json.loads(up.stdout)["digests"]
    back = rehearsal.alva("up")
    assert back.returncode == 0, back.stderr
    assert "Node" not in httpx.get(f"{rehearsal.url}/admin", follow_redirects=True).text


def test_release_with_another_image_is_verified_as_any_other(rehearsal: Rehearsal, released: dict[str, str]) -> None:
    for path in ("/admin", "/admin/", "/admin/users"):
        answer = httpx.get(rehearsal.url + path)
        assert (answer.status_code, answer.headers["location"]) == (
            303,
            f"/auth/refresh?next={path.replace('/', '%2F')}",
        )
        assert answer.headers["x-alva-service"] == "admin"
        assert answer.headers["x-alva-digest"] == released["admin"]
    verified = rehearsal.alva("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.usefixtures("released")
def test_other_image_recognises_a_session_of_auth(rehearsal: Rehearsal) -> None:
    with httpx.Client(
        base_url=rehearsal.url, follow_redirects=True, timeout=20, headers={"Origin": rehearsal.url}
    ) as browser:
        sign_up(browser, rehearsal, "node@example.com")
        assert browser.get("/admin").status_code == 403
        promoted = rehearsal.alva("run", "auth", "--", "python", "-m", "auth.promote", "node@example.com")
        assert promoted.returncode == 0, promoted.stderr
        sign_up(browser, rehearsal, "node@example.com")
        page = browser.get("/admin").raise_for_status()
    assert re.search(r"Node 24\.[\d.]+ serves node@example.com", page.text)


@pytest.mark.usefixtures("released")
def test_private_pages_of_another_image_are_private(rehearsal: Rehearsal) -> None:
    assert "checks" not in httpx.get(f"{rehearsal.url}/admin/health?deep=1").text
    logs = rehearsal.alva("logs", "admin", "--json", "--since", "5m").stdout.splitlines()
    assert any("/admin/health" in str(json.loads(line)["message"]) for line in logs)
