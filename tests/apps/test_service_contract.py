"""The contract that each service keeps, and an image in its place must keep: docs/reference/service-contract.md."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from kit import serve
from tests.apps.conftest import RunningProcess, free_port, start_process, wait_until

PREFIXES = {"web": "", "api": "/api", "auth": "/auth", "admin": "/admin"}
LIGHT_PATHS = {"web": "/", "api": "/api/openapi.json", "auth": "/auth/openapi.json", "admin": "/admin"}


@dataclass
class Service:
    name: str
    environment: dict[str, str]
    running: RunningProcess

    @property
    def url(self) -> str:
        return self.running.url


@pytest.fixture(scope="module", params=PREFIXES)
def service(
    request: pytest.FixtureRequest, service_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    name = request.param
    # What web and admin ask is not there, which must not keep them from serving.
    nobody = f"http://127.0.0.1:{free_port()}"
    environment = {
        **service_environment,
        "PORT": str(free_port()),
        "PATH_PREFIX": PREFIXES[name],
        "VPC_CIDR": "10.0.0.0/16",
        "NEXT_PUBLIC_API_URL": "/api",
        "NEXT_PUBLIC_AUTH_URL": "/auth",
        "API_INTERNAL_URL": nobody,
        "AUTH_INTERNAL_URL": nobody,
    }
    running = start_process(name, environment, tmp_path_factory.mktemp(f"contract-{name}"))
    yield Service(name, environment, running)
    assert running.stop() == 0, running.log[-3000:]


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False, timeout=10)


def test_health_is_unprefixed_and_shallow(service: Service) -> None:
    answer = get(f"{service.url}/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "service": service.name})


def test_deep_health_and_metrics_are_for_the_inside(service: Service) -> None:
    assert "checks" in get(f"{service.url}/health?deep=1").json()
    assert "alva_requests_in_flight" in get(f"{service.url}/metrics").text
    outside = {"X-Forwarded-For": "203.0.113.9"}
    assert "checks" not in get(f"{service.url}/health?deep=1", **outside).json()
    assert "alva_requests_in_flight" not in get(f"{service.url}/metrics", **outside).text


def test_answers_say_which_image_gave_them(service: Service) -> None:
    answer = get(service.url + LIGHT_PATHS[service.name])
    assert answer.headers["x-alva-service"] == service.name
    assert answer.headers["x-alva-digest"] == service.environment["IMAGE_DIGEST"]


def test_service_answers_below_its_prefix_only(service: Service) -> None:
    assert get(service.url + LIGHT_PATHS[service.name]).status_code in {200, 303}
    if PREFIXES[service.name]:
        assert get(f"{service.url}/").status_code == 404
        assert get(f"{service.url}{PREFIXES[service.name]}x").status_code == 404


def test_answers_are_guarded(service: Service) -> None:
    headers = get(service.url + LIGHT_PATHS[service.name]).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "unsafe" not in headers["content-security-policy"]
    assert "server" not in headers


def test_connection_outlives_an_answer_and_the_load_balancers_patience(service: Service) -> None:
    assert serve.KEEP_ALIVE_SECONDS > 60, "the load balancer's idle timeout"
    connection = http.client.HTTPConnection("127.0.0.1", int(service.environment["PORT"]), timeout=5)
    connection.request("GET", "/health")
    connection.getresponse().read()
    own_socket = connection.sock
    time.sleep(6)  # uvicorn's default is to close after 5 s
    connection.request("GET", "/health")
    assert connection.getresponse().status == 200
    assert connection.sock is own_socket
    connection.close()


def test_container_health_check_tells_a_healthy_service_from_none(service: Service) -> None:
    def check(**environment: str) -> int:
        command = [sys.executable, "-m", "kit.healthcheck"]
        variables = {**service.environment, **environment}
        return subprocess.run(command, env=variables, capture_output=True, check=False).returncode

    assert check() == 0
    assert check(HOST="0.0.0.0") == 0  # noqa: S104 - what the image says
    assert check(PORT=str(free_port())) == 1


def test_wrong_settings_end_the_start_with_a_line_each(service: Service) -> None:
    broken = {**service.environment, "PORT": "many", "VPC_CIDR": "everything"}
    ended = subprocess.run(
        [sys.executable, "-m", service.name], env=broken, capture_output=True, text=True, check=False, timeout=30
    )
    assert ended.returncode == 78
    assert f"cannot start {service.name}: wrong settings" in ended.stderr
    assert "  PORT: " in ended.stderr
    assert "  VPC_CIDR: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_port_in_use_is_an_error(service: Service) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", service.name],
        env=service.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert ended.returncode != 0
    assert "address already in use" in (ended.stdout + ended.stderr).lower()


def test_logs_are_json_and_hold_no_secret(service: Service) -> None:
    get(service.url + LIGHT_PATHS[service.name], **{"X-Request-Id": "contract-1234"})
    wait_until(lambda: "contract-1234" in service.running.log, "the request's line")
    assert [line for line in service.running.log.splitlines() if not line.startswith("{")] == []
    assert any(line.get("request_id") == "contract-1234" for line in service.running.log_lines)
    for name in ("PGPASSWORD", "REDIS_PASSWORD", "JWT_SECRET", "COOKIE_SECRET", "RESEND_API_KEY", "OPENAI_API_KEY"):
        assert service.environment[name] not in service.running.log, name


@pytest.mark.parametrize("name", PREFIXES)
def test_request_in_hand_is_answered_before_the_end(
    name: str, service_environment: dict[str, str], tmp_path: Path
) -> None:
    """A request whose headers are half sent when SIGTERM comes is answered; a new connection is not taken."""
    port = free_port()
    environment = {
        **service_environment,
        "PORT": str(port),
        "PATH_PREFIX": PREFIXES[name],
        "NEXT_PUBLIC_API_URL": "/api",
        "NEXT_PUBLIC_AUTH_URL": "/auth",
        "API_INTERNAL_URL": "http://127.0.0.1:9",
        "AUTH_INTERNAL_URL": "http://127.0.0.1:9",
    }
    running = start_process(name, environment, tmp_path)
    body = b'{"email": "x", "password": "y"}'
    target = LIGHT_PATHS[name].encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        # A body that is still on its way makes it a request in hand.
        connection.sendall(
            b"POST "
            + target
            + b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
            + str(len(body)).encode()
            + b"\r\n\r\n"
            + body[:5]
        )
        time.sleep(0.3)
        codes: list[int] = []
        stopper = threading.Thread(target=lambda: codes.append(running.stop(signal.SIGTERM)))
        stopper.start()
        time.sleep(0.5)
        connection.sendall(body[5:])
        answer = connection.recv(4096)
        stopper.join(30)
    assert answer.startswith(b"HTTP/1.1 "), answer
    assert codes == [0]
