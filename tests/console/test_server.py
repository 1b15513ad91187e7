"""The console answers its own page only, on loopback, and only reads."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from alva.aws import Aws, Target
from alva.console.server import Console
from alva.console.session import Session, Watch
from alva.errors import AlvaError
from alva.release.manifest import Manifest, Migration

MANIFEST = Manifest(
    environment="test",
    prefix="alva-test",
    region="us-east-1",
    cluster="alva-test-cluster",
    namespace="alva-test.local",
    tags={},
    stacks=(),
    services=(),
    migration=Migration(family="m", container="m", service="api", image_parameter="M", stack="s"),
    secrets=(),
)


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console whose AWS does not answer: what it refuses, it refuses before it asks AWS."""
    session = Session(
        Aws(Target.local("http://127.0.0.1:9")),
        MANIFEST,
        {},
        seconds_between_looks=60,
        chart_library=tmp_path_factory.mktemp("charts"),
        extra={},
    )
    session.prepare = lambda: None  # type: ignore[method-assign]
    console = Console(session)
    ready = threading.Event()
    thread = threading.Thread(target=console.serve, args=(ready.set,), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield console
    console.stop()
    thread.join(30)
    assert not thread.is_alive()


def ask(console: Console, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", console.port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    for name, value in ({"Host": f"127.0.0.1:{console.port}"} | headers).items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def cookie(console: Console) -> str:
    status, headers, _ = ask(console, f"/?token={console.token}")
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"]
    assert "samesite=strict" in headers["set-cookie"].lower()
    return headers["set-cookie"].split(";")[0]


def test_address_that_is_printed_opens_the_page(console: Console) -> None:
    status, headers, body = ask(console, "/", Cookie=cookie(console))
    assert status == 200
    assert "<title>Alva</title>" in body
    assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/picture", "/api/events", "/api/logs"])
def test_nobody_without_the_token_is_answered(console: Console, path: str) -> None:
    for headers in ({}, {"Cookie": f"alva_console_{console.port}=guess"}):
        status, _, body = ask(console, path, **headers)
        assert status == 403
        assert "./alva open" in body
    assert ask(console, f"{path}?token=guess")[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "localhost", "127.0.0.1:1"])
def test_another_host_name_is_refused(console: Console, host: str) -> None:
    assert ask(console, "/", Host=host, Cookie=cookie(console))[0] == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_page_of_another_origin_is_refused(console: Console, origin: str) -> None:
    assert ask(console, "/api/picture", Origin=origin, Cookie=cookie(console))[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_reading_is_answered(console: Console, method: str) -> None:
    assert ask(console, "/", method, Cookie=cookie(console))[0] == 405


@pytest.mark.parametrize("name", ["..%2fserver.py", "%2e%2e/server.py", "server.py", "nothing.js"])
def test_only_files_of_the_page_are_served(console: Console, name: str) -> None:
    assert ask(console, f"/static/{name}", Cookie=cookie(console))[0] == 404


def test_pages_name_no_other_host() -> None:
    from alva.console.server import STATIC

    for file in STATIC.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, file
        assert "https://" not in text, file
        assert "innerHTML" not in text, f"{file}: text from services must not be parsed"


def test_what_aws_refuses_is_told_in_its_words(console: Console) -> None:
    status, _, body = ask(console, "/api/releases", Cookie=cookie(console))
    assert status == 502
    assert json.loads(body)["error"]["message"] == "cannot read the ledger: no connection to AWS's endpoint"


def test_watch_shares_one_look_and_tells_changes_alone() -> None:
    looks: list[int] = []

    def look() -> Any:
        looks.append(1)
        if len(looks) == 2:
            raise AlvaError("cannot look")
        if len(looks) == 4:
            raise RuntimeError("surprise")
        return {"at": len(looks), "value": min(len(looks), 3)}

    watch = Watch(look, 0.01)
    with watch.follow(), watch.follow():
        seen = -1
        told: list[tuple[str, Any]] = []
        while len(told) < 5:
            seen, name, value = watch.newer_than(seen, timeout_seconds=30)
            told.append((name, value.get("value") or value.get("message")))
    watch.close()
    assert told[:2] == [("environment", 1), ("problem", "cannot look")]
    assert ("problem", "cannot look at the environment: surprise") in told
    assert told[-1] == ("environment", 3)
