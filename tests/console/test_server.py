"""The console listens on loopback, answers only its own page and is read-only."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from alva.aws import Aws, Target
from alva.console.server import Console
from alva.console.session import Session, Watch
from alva.errors import AlvaError
from alva.release.manifest import Manifest, Migration, Parameters

from .conftest import Synthesised
from .large_environment import LargeEnvironment, console_of
from .serving import serving

MANIFEST = Manifest(
    environment="test",
    prefix="alva-test",
    region="us-east-1",
    cluster="alva-test-cluster",
    namespace="alva-test.local",
    load_balancer="alva-test-alb",
    dashboard="alva-test",
    alarm_prefix="alva-test-",
    alarms={},
    parameters=Parameters(
        lock="/alva-test/lock",
        releases="/alva-test/release",
        causes="/alva-test/why",
        secrets="/alva-test/secrets",
        asleep="/alva-test/asleep",
    ),
    tags={},
    stacks=(),
    services=(),
    migration=Migration(family="m", container="m", service="api", image_parameter="M", stack="s"),
    secrets=(),
)


@contextmanager
def served(aws: Aws, charts: Path) -> Iterator[Console]:
    """Serve a console of an environment without services during the block."""
    session = Session(
        aws, MANIFEST, {}, seconds_between_readings=60, chart_library=charts, extra={}, read_savings=dict
    )  # fmt: skip
    with serving(session) as console:
        yield console


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    """A console without a reachable AWS: it refuses invalid requests before it calls AWS."""
    with served(Aws(Target.local("http://127.0.0.1:9")), tmp_path_factory.mktemp("charts")) as console:
        yield console


def fetch(console: Console, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
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
    status, headers, _ = fetch(console, f"/?token={console.token}")
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"]
    assert "samesite=strict" in headers["set-cookie"].lower()
    return headers["set-cookie"].split(";")[0]


def test_printed_address_opens_the_page(console: Console) -> None:
    status, headers, body = fetch(console, "/", Cookie=cookie(console))
    assert status == 200
    assert "<title>Alva</title>" in body
    assert "default-src 'none'" in headers["content-security-policy"]


def test_page_contains_the_picture_that_was_just_read(forty: Synthesised) -> None:
    """So the first view needs no further request."""
    manifest, values, templates = forty
    with console_of(LargeEnvironment(manifest, templates), manifest, values) as console:
        token = cookie(console)
        for _ in range(20):  # the reading is dropped after some seconds
            picture = json.loads(fetch(console, "/api/picture", Cookie=token)[2])
            body = fetch(console, "/", Cookie=token)[2]
            known = json.loads(body.partition('id="first-view">')[2].partition("</script>")[0])
            if known["picture"] is not None:
                break
    assert known["picture"] == picture
    assert "<svg" not in body, "an element within the data would end the script"


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/api/picture", "/api/events", "/api/logs"])
def test_request_without_the_token_is_refused(console: Console, path: str) -> None:
    for headers in ({}, {"Cookie": f"alva_console_{console.port}=guess"}):
        status, _, body = fetch(console, path, **headers)
        assert status == 403
        assert "./alva open" in body
    assert fetch(console, f"{path}?token=guess")[0] == 403


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "localhost", "127.0.0.1:1"])
def test_another_host_name_is_refused(console: Console, host: str) -> None:
    assert fetch(console, "/", Host=host, Cookie=cookie(console))[0] == 403


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
def test_page_of_another_origin_is_refused(console: Console, origin: str) -> None:
    assert fetch(console, "/api/picture", Origin=origin, Cookie=cookie(console))[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_methods_that_write_are_refused(console: Console, method: str) -> None:
    assert fetch(console, "/", method, Cookie=cookie(console))[0] == 405


@pytest.mark.parametrize("name", ["..%2fserver.py", "%2e%2e/server.py", "server.py", "nothing.js"])
def test_only_files_of_the_page_are_served(console: Console, name: str) -> None:
    assert fetch(console, f"/static/{name}", Cookie=cookie(console))[0] == 404


def test_pages_name_no_other_host() -> None:
    from alva.console.server import STATIC

    for file in STATIC.iterdir():
        text = file.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, file
        assert "https://" not in text, file
        assert "innerHTML" not in text, f"{file}: text from services must not be parsed"


def test_error_of_aws_is_returned_in_its_words(console: Console) -> None:
    status, _, body = fetch(console, "/api/releases", Cookie=cookie(console))
    assert status == 502
    assert json.loads(body)["error"]["message"] == "cannot read the ledger: no connection to AWS's endpoint"


def test_watchers_share_one_reading_and_get_only_changes() -> None:
    looks: list[int] = []
    turn = threading.Semaphore(1)

    def reading() -> Any:
        if len(looks) < 5:
            assert turn.acquire(timeout=60)  # a follower gets only the latest reading, so each reading waits for it
        looks.append(1)
        if len(looks) == 2:
            raise AlvaError("cannot look")
        if len(looks) == 4:
            raise RuntimeError("surprise")
        return {"at": len(looks), "value": min(len(looks), 3)}

    watch = Watch(reading, 0.01)
    with watch.follow(), watch.follow():
        seen = -1
        received: list[tuple[str, Any]] = []
        while len(received) < 5:
            seen, name, value = watch.newer_than(seen, timeout_seconds=60)
            received.append((name, value.get("value") or value.get("message")))
            turn.release()
    watch.close()
    assert received[:2] == [("environment", 1), ("problem", "cannot look")]
    assert ("problem", "cannot read the environment: surprise") in received
    assert received[-1] == ("environment", 3)


class SilentAws(Aws):
    """An AWS whose responses the test delays."""

    def __init__(self) -> None:
        super().__init__(Target.local("http://127.0.0.1:9"))
        self.answers = threading.Event()

    def client(self, service: str) -> Any:
        self.answers.wait(60)
        raise AlvaError(f"cannot reach {service}")


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[tuple[Console, SilentAws]]:
    aws = SilentAws()
    with served(aws, tmp_path) as console:
        yield console, aws
        aws.answers.set()


def test_page_is_served_before_aws_answers_and_then_shows_the_answer(
    silent: tuple[Console, SilentAws],
) -> None:
    console, aws = silent
    pass_ = cookie(console)
    assert "reading the environment" in fetch(console, "/", Cookie=pass_)[2]
    connection = http.client.HTTPConnection("127.0.0.1", console.port, timeout=30)
    connection.request("GET", "/api/events", headers={"Cookie": pass_})
    events = connection.getresponse()
    assert not aws.answers.is_set()
    aws.answers.set()
    assert events.readline() == b"event: problem\n"
    assert b"cannot reach" in events.readline()
    connection.close()


def test_open_streams_end_with_the_console(silent: tuple[Console, SilentAws]) -> None:
    console, aws = silent
    connection = http.client.HTTPConnection("127.0.0.1", console.port, timeout=30)
    connection.request("GET", "/api/events", headers={"Cookie": cookie(console)})
    events = connection.getresponse()
    aws.answers.set()
    assert events.readline() == b"event: problem\n"
    console.stop()
    events.read()  # returns only when the stream ends
    connection.close()


def test_open_without_credentials_ends_with_the_reason_and_the_next_step(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    ended = subprocess.run(
        [sys.executable, "-P", "-m", "alva", "open", "--target", "aws", "--no-browser"],
        env={**environment, "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "ALVA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 3
    assert "cannot show the environment on AWS: no AWS credentials" in ended.stderr
    assert "next: sign in" in ended.stderr
    assert not ended.stdout
