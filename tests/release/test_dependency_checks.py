"""The command that checks dependencies inside the network, the results read from its output, and the next step."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from contextlib import redirect_stdout
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from alva.aws import Aws, Target
from alva.release import oneoff
from alva.release.dependency_checks import DependencyChecks, next_step_of, read_results
from alva.release.manifest import Manifest, Secret, Service
from alva.release.oneoff import IDLE_COMMAND
from alva.release.verify import Verdict
from common import deep_check

from .test_failed_operations import ERRORS, Fault, FaultyAws

APPS = Path(__file__).parents[2] / "apps"
OVERRIDES_BYTES = 8192


def test_command_fits_into_run_task_with_sixty_services(
    manifest: Manifest,
) -> None:
    (service, *_) = manifest.services
    many = tuple(replace(service, name=f"service-{number}", port=3000) for number in range(60))
    asking = DependencyChecks(Aws(Target.local("http://127.0.0.1:9")), replace(manifest, services=many))
    command = asking.command(("python", "-m", "common.deep_check"), "somebody-with-a-long-name@example.com", many, 20)
    overrides = {
        "containerOverrides": [{"name": "api", "command": command}, {"name": "worker", "command": IDLE_COMMAND}]
    }
    assert len(json.dumps(overrides)) < OVERRIDES_BYTES


def test_failed_check_is_retried_by_the_same_task() -> None:
    failures = [OSError("not known yet"), OSError("not known yet")]

    def check() -> str:
        if failures:
            raise failures.pop()
        return "fine"

    assert deep_check.judge(check, time.monotonic() + 60) == {"verdict": "OK", "reason": "fine"}


def test_check_that_keeps_failing_fails_at_its_time_limit() -> None:
    def check() -> str:
        raise OSError("gone")

    assert deep_check.judge(check, time.monotonic() - 1) == {"verdict": "FAIL", "reason": "OSError: gone"}


def test_probe_reports_a_failure_and_continues_with_the_next_check() -> None:
    """The machine has no service, database or cache: each check reports that."""
    asked = {"address": "http://127.0.0.1", "services": {"web": ":9/health"}, "customer": None, "patience": 0}
    ended = subprocess.run(
        [sys.executable, "-m", "common.deep_check", json.dumps(asked)],
        env={"PATH": "", "PYTHONPATH": str(APPS), "DATABASE_URL": "postgresql://nobody@127.0.0.1:9/alva"},
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
    assert results[1].reason == "the image has no 'REDIS_URL'"
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
def test_service_is_judged_by_its_deep_health_response(
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
            deep_check.main()
        answering.join()
    result = read_results(printed.getvalue().splitlines(), seconds=0)[-1]
    assert (result.name, result.verdict) == ("inside: web by name", verdict)
    assert reason in result.reason


def test_only_a_wrong_password_has_the_rotation_as_its_next_step(manifest: Manifest) -> None:
    generated = Secret(name=f"{manifest.prefix}-database", short_name="database", kind="generated", used_by=("api",))
    manifest = replace(manifest, secrets=(generated,))
    refused = 'inside: database: OperationalError: FATAL:  password authentication failed for user "alva_admin"'
    assert (next_step_of(manifest, [refused]) or "").startswith("./alva secrets rotate database")
    assert (next_step_of(manifest, ["inside: queue: WRONGPASS invalid username-password pair"]) or "").startswith(
        "./alva"
    )
    assert next_step_of(manifest, ["inside: queue: TimeoutError"]) is None


def test_dependency_checks_are_skipped_without_a_deep_check_command(aws: Aws, manifest: Manifest) -> None:
    services = tuple(replace(each, deep_check_command=None) for each in manifest.services)
    (result,) = DependencyChecks(aws, replace(manifest, services=services)).run()
    assert (result.verdict, result.reason) == (Verdict.SKIP, "no service entry has a deep_check_command")


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        (["/app/.venv/bin/python: No module named common.deep_check"], Verdict.SKIP),
        (["Error: Cannot find module '/app/dist/deep-check.js'"], Verdict.SKIP),
        (["Traceback", "RuntimeError: it is broken"], Verdict.FAIL),
        (['{"alva_check": "database", "verdict": "OK", "reason": ""}', "No module named redis"], Verdict.FAIL),
    ],
    ids=["an older image", "an older image in Node", "broken", "broken half-way"],
)
def test_image_without_a_deep_check_is_skipped_and_a_broken_one_fails(
    aws: Aws, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, lines: list[str], verdict: Verdict
) -> None:
    first, *others = manifest.services
    asking = replace(first, deep_check_command=("node", "deep-check.js"))
    asked: list[oneoff.OneOff] = []

    def run(_: Aws, one_off: oneoff.OneOff, *, output: Any, **_more: Any) -> oneoff.Ended:
        asked.append(one_off)
        for line in lines:
            output(line)
        return oneoff.Ended(task_arn="a", exit_code=1, stopped_reason="Essential container exited", reasons=("exit 1",))

    monkeypatch.setattr(oneoff, "network_of_service", lambda *_: ("api:1", ("subnet-1",), ("sg-1",)))
    monkeypatch.setattr(oneoff, "run", run)
    results = DependencyChecks(aws, replace(manifest, services=(asking, *others))).run()
    assert results[-1].verdict is verdict
    assert (asked[0].container, asked[0].command[:2]) == (first.name, ("node", "deep-check.js"))
    assert set(json.loads(asked[0].command[2])) == {"address", "services", "customer", "patience"}


@pytest.fixture
def deployed(aws: Aws, manifest: Manifest) -> Service:
    """The manifest's first service, on another port and health path than its entry names."""
    service = manifest.services[0]
    group = aws.elbv2.create_target_group(
        Name=f"{manifest.prefix}-one", Protocol="HTTP", Port=3013, TargetType="ip", HealthCheckPath="/ready"
    )["TargetGroups"][0]["TargetGroupArn"]
    aws.ecs.create_cluster(clusterName=manifest.cluster)
    aws.ecs.register_task_definition(
        family=service.service,
        networkMode="awsvpc",
        containerDefinitions=[{"name": service.name, "image": "x", "portMappings": [{"containerPort": 3013}]}],
    )
    aws.ecs.create_service(
        cluster=manifest.cluster,
        serviceName=service.service,
        taskDefinition=service.service,
        desiredCount=0,
        loadBalancers=[{"targetGroupArn": group, "containerName": service.name, "containerPort": 3013}],
        networkConfiguration={"awsvpcConfiguration": {"subnets": ["subnet-1"]}},
    )
    return service


def test_services_are_checked_at_their_deployed_port_and_path(aws: Aws, manifest: Manifest, deployed: Service) -> None:
    first, *rest = DependencyChecks(aws, manifest).as_deployed(manifest.services)
    assert (first.name, first.port, first.health_path) == (deployed.name, 3013, "/ready")
    assert rest == list(manifest.services[1:])


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("ecs.DescribeServices", "throttled"),
        ("elbv2.DescribeTargetGroups", "denied"),
        ("ecs.DescribeTaskDefinition", "expired"),
        ("ecs.RunTask", "dropped"),
    ],
)
def test_check_fails_and_names_the_aws_call_that_failed(
    aws: Aws, manifest: Manifest, deployed: Service, operation: str, kind: str
) -> None:
    """A failed check rolls the release back."""
    fault = Fault(operation, kind)
    services = (replace(deployed, deep_check_command=("look",)), *manifest.services[1:])
    (result,) = DependencyChecks(FaultyAws(fault, aws.target, aws.poll), replace(manifest, services=services)).run()
    assert fault.has_struck
    assert (result.name, result.verdict) == ("inside", Verdict.FAIL)
    assert (ERRORS[kind][1] if kind in ERRORS else "closed") in result.reason
