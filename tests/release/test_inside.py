"""The probe that is sent into a task, what is read of its output, and what that leads to."""

from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
import threading
import time
from contextlib import redirect_stdout
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from alva.aws import Aws, Target
from alva.release import inside_probe
from alva.release.inside import Inside, cure_of, read_results
from alva.release.manifest import Manifest, Secret
from alva.release.oneoff import IDLE
from alva.release.verify import Verdict

OVERRIDES_BYTES = 8192


def test_probe_is_small_enough_for_run_task_with_sixty_services_and_needs_nothing_of_ours(
    manifest: Manifest,
) -> None:
    (service, *_) = manifest.services
    many = tuple(replace(service, name=f"service-{number}", port=3000) for number in range(60))
    asking = Inside(Aws(Target.local("http://127.0.0.1:9")), replace(manifest, services=many))
    command = asking.command("somebody-with-a-long-name@example.com", None, 20)
    overrides = {"containerOverrides": [{"name": "api", "command": command}, {"name": "worker", "command": IDLE}]}
    assert len(json.dumps(overrides)) < OVERRIDES_BYTES
    assert "alva." not in command[2]


def test_check_that_fails_at_first_is_asked_again_by_the_same_task() -> None:
    failures = [OSError("not known yet"), OSError("not known yet")]

    def check() -> str:
        if failures:
            raise failures.pop()
        return "fine"

    assert inside_probe.judge(check, time.monotonic() + 60) == {"verdict": "OK", "reason": "fine"}


def test_check_that_keeps_failing_fails_once_there_is_no_more_time() -> None:
    def check() -> str:
        raise OSError("gone")

    assert inside_probe.judge(check, time.monotonic() - 1) == {"verdict": "FAIL", "reason": "OSError: gone"}


def test_probe_says_what_failed_and_goes_on_with_the_next_check() -> None:
    """Here is no service, no database, and no name of a cache: each check says so."""
    asked = {"address": "http://127.0.0.1", "services": {"web": ":9/health"}, "customer": None, "patience": 0}
    ended = subprocess.run(
        [sys.executable, "-c", inspect.getsource(inside_probe), json.dumps(asked)],
        env={"PATH": "", "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/alva"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    results = read_results(["noise", *ended.stdout.splitlines(), '{"message": "a log line"}'], seconds=1.5)
    assert [(result.name, result.verdict) for result in results] == [
        ("inside: database", Verdict.FAIL),
        ("inside: queue", Verdict.SKIP),
        ("inside: web by name", Verdict.FAIL),
    ]
    assert results[1].reason == "the api has no 'REDIS_URL'"
    assert "Connection refused" in results[2].reason


@pytest.mark.parametrize(
    ("status", "body", "verdict", "reason"),
    [
        (200, '{"checks": {"database": "ok"}}', Verdict.OK, "answers: database ok"),
        (503, '{"checks": {"cache": "TimeoutError: "}}', Verdict.FAIL, "HTTP 503: cache TimeoutError"),
        (200, "fine", Verdict.OK, "answers"),
        (500, "broken", Verdict.FAIL, "HTTP 500"),
    ],
    ids=["dependencies well", "a dependency ill", "an image that names none", "an image that fails"],
)
def test_service_is_judged_by_what_its_health_path_says(
    status: int, body: str, verdict: Verdict, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        asked = {
            "address": "http://127.0.0.1",
            "services": {"web": f":{server.server_port}/health?deep=1"},
            "customer": None,
            "patience": 0,
        }
        monkeypatch.setattr(sys, "argv", ["probe", json.dumps(asked)])
        printed = io.StringIO()
        with redirect_stdout(printed):
            inside_probe.main()
        answering.join()
    result = read_results(printed.getvalue().splitlines(), seconds=0)[-1]
    assert (result.name, result.verdict) == ("inside: web by name", verdict)
    assert reason in result.reason


def test_wrong_password_names_the_rotation_as_its_cure_and_nothing_else_does(manifest: Manifest) -> None:
    generated = Secret(name=f"{manifest.prefix}-database", kind="generated", used_by=("api",))
    manifest = replace(manifest, secrets=(generated,))
    refused = 'inside: database: OperationalError: FATAL:  password authentication failed for user "alva_admin"'
    assert (cure_of(manifest, [refused]) or "").startswith("./alva secrets rotate database")
    assert (cure_of(manifest, ["inside: queue: WRONGPASS invalid username-password pair"]) or "").startswith("./alva")
    assert cure_of(manifest, ["inside: queue: TimeoutError"]) is None
