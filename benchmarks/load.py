"""Requests per second and latency of each service through the load balancer, at rest and while all four are released.

    .venv/bin/python benchmarks/load.py [--seconds 10] [--connections 8] [--json]

Runs in a clone, with a home and ports of its own. The requests do real work: an administrator who signed up by mail
requests their plans and the list of users, so that pages are rendered and PostgreSQL is read. The clients run on the
same machine. Exits with 1 if a request failed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

from figures import alva, clone, isolated, share_installation

PATHS = {"web": "/plans", "api": "/api/plans", "auth": "/auth/me", "admin": "/admin/users"}
ADDRESS = "load@example.com"
REQUEST_TIMEOUT_SECONDS = 30


@dataclass
class Measured:
    """The results of the clients of one service."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    """In seconds, of the successful requests."""
    failures: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Return this percentile of the latencies in milliseconds, or 0 without requests."""
        ordered = sorted(self.latencies)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000 if ordered else 0.0

    def as_json(self) -> dict[str, object]:
        return {
            "requests": len(self.latencies),
            "requests_per_second": round(len(self.latencies) / self.seconds, 1) if self.seconds else 0.0,
            "p50_ms": round(self.percentile(0.5), 1),
            "p99_ms": round(self.percentile(0.99), 1),
            "failed": len(self.failures),
            "failures": sorted(set(self.failures))[:5],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=10, help="duration of the load on each service at rest")
    parser.add_argument("--connections", type=int, default=8, help="parallel connections to one service")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="alva-load-", ignore_cleanup_errors=True) as folder:
        result = measure(Path(folder) / "alva", arguments.seconds, arguments.connections)
    print(json.dumps(result, indent=2) if arguments.json else as_table(result))
    if any(service["failed"] for phase in result.values() for service in phase.values()):
        sys.exit(1)


def measure(project: Path, seconds: float, connections: int) -> dict[str, dict[str, dict[str, object]]]:
    """Measure both phases in a clone of HEAD at `project`. Return phase -> service -> figures."""
    clone(project)
    share_installation(project)
    environment = isolated(project)
    place = f"127.0.0.1:{environment['ALVA_EDGE_PORT']}"
    inbox = f"http://127.0.0.1:{environment['ALVA_INBOX_PORT']}"
    try:
        alva(project, environment, "up")
        sign_in(place, inbox)
        alva(project, environment, "run", "auth", "--", "python", "-m", "auth.promote", ADDRESS)
        cookie = sign_in(place, inbox)
        at_rest = {}
        for service in PATHS:
            with load(place, cookie, [service], connections) as measured:
                time.sleep(seconds)
            at_rest[service] = measured[service].as_json()
        cookie = sign_in(place, inbox)  # An access token expires after ten minutes.
        edit_all_services(project)
        # Below full load: this phase measures whether users notice the release.
        with load(place, cookie, list(PATHS), 2, pause_seconds=0.02) as measured:
            alva(project, environment, "up")
        during = {service: measured[service].as_json() for service in PATHS}
    finally:
        alva(project, environment, "down")
    return {"at rest": at_rest, "during a release of all four": during}


@contextmanager
def load(
    place: str, cookie: str, services: list[str], connections: int, pause_seconds: float = 0.0
) -> Iterator[dict[str, Measured]]:
    """Send requests to each service over `connections` while the block runs. The result is complete after it."""
    measured = {service: Measured() for service in services}
    done = threading.Event()
    clients = [
        threading.Thread(target=ask, args=(place, cookie, PATHS[service], measured[service], done, pause_seconds))
        for service in services
        for _ in range(connections)
    ]
    started = time.monotonic()
    for client in clients:
        client.start()
    try:
        yield measured
    finally:
        done.set()
        for client in clients:
            client.join()
        for one in measured.values():
            one.seconds = time.monotonic() - started


def ask(place: str, cookie: str, path: str, measured: Measured, done: threading.Event, pause_seconds: float) -> None:
    """Send requests over one connection. Open a new one if the server announced that it closes it."""
    connection = http.client.HTTPConnection(place, timeout=REQUEST_TIMEOUT_SECONDS)
    while not done.is_set():
        started = time.monotonic()
        try:
            connection.request("GET", path, headers={"Cookie": cookie})
            response = connection.getresponse()
            response.read()
            if response.status == 200:
                measured.latencies.append(time.monotonic() - started)
            else:
                measured.failures.append(f"{path}: HTTP {response.status}")
        except (OSError, http.client.HTTPException) as error:
            measured.failures.append(f"{path}: {type(error).__name__}")
            connection.close()
        done.wait(pause_seconds)
    connection.close()


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def sign_in(place: str, inbox: str) -> str:
    """Register or sign in by mail, as a browser does. Return the access cookie."""
    before = len(mails(inbox))
    answer = post(place, "/signup", {"email": ADDRESS})
    browser = cookie_of(answer, "alva_browser")
    deadline = time.monotonic() + 30
    while len(found := mails(inbox)) == before:
        if time.monotonic() > deadline:
            sys.exit("cannot measure: no mail arrived within 30 s")
        time.sleep(0.1)
    link = re.search(r"/auth/verify\?\S+", found[0]["text"])
    if link is None:
        sys.exit(f"cannot measure: no link in the mail {found[0]['text']!r}")
    opened = request(urllib.request.Request(f"http://{place}{link[0]}", headers={"Cookie": browser}))
    return cookie_of(opened, "alva_access")


def mails(inbox: str) -> list[dict[str, str]]:
    """Return the mails to the administrator's address, newest first."""
    query = urllib.parse.urlencode({"to": ADDRESS})
    with urllib.request.urlopen(f"{inbox}/api/messages?{query}", timeout=REQUEST_TIMEOUT_SECONDS) as answer:  # noqa: S310 - ours
        return list(json.load(answer)["messages"])


def post(place: str, path: str, form: Mapping[str, str]) -> Message:
    data = urllib.parse.urlencode(form).encode()
    return request(urllib.request.Request(f"http://{place}{path}", data, {"Origin": f"http://{place}"}))


def request(asked: urllib.request.Request) -> Message:
    """Send a request and return the headers of its response, which is a redirect."""
    try:
        urllib.request.build_opener(_NoRedirects).open(asked, timeout=REQUEST_TIMEOUT_SECONDS).close()
    except urllib.error.HTTPError as answer:
        if answer.code == 303:
            return answer.headers
        sys.exit(f"cannot measure: {asked.full_url} answered {answer.code}")
    sys.exit(f"cannot measure: {asked.full_url} did not redirect")


def cookie_of(headers: Message, name: str) -> str:
    for line in headers.get_all("Set-Cookie", []):
        if line.startswith(f"{name}="):
            return str(line.partition(";")[0])
    sys.exit(f"cannot measure: no cookie {name}")


def edit_all_services(project: Path) -> None:
    """Change a file that all four services share, which makes four new images."""
    module = project / "apps" / "common" / "app.py"
    module.write_text(module.read_text() + "\n# a change that makes four new images\n")


def as_table(result: Mapping[str, Mapping[str, Mapping[str, object]]]) -> str:
    lines = []
    for phase, services in result.items():
        lines.append(f"{phase:30}  {'req/s':>8}  {'p50 ms':>8}  {'p99 ms':>8}  {'failed':>6}")
        lines += [
            f"  {name:28}  {one['requests_per_second']:>8}  {one['p50_ms']:>8}  {one['p99_ms']:>8}  {one['failed']:>6}"
            for name, one in services.items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
