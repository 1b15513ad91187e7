"""Compares the region's load balancer with direct requests and with nginx, in one run.

    .venv/bin/python benchmarks/balancer.py [--seconds 10] [--connections 16] [--json]

Needs `wrk` and `nginx` (Debian: `apt-get install wrk nginx-light`), both with one thread, as Envoy has here. Runs in a
clone with a home and ports of its own, on loopback addresses (ALVA_NETWORK=loopback), so that proxies are compared and
not networks. Two responses are measured: web's `/health`, which Python makes, and a fixed response of a listener rule,
which measures the proxies alone. The client runs on the same machine. Exits with 1 if a request failed.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from figures import alva, clone, isolated, share_installation
from releases import client

NGINX_PORT = 18081
FIXED_PATH = "/fixed-answer"
NGINX = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream web {{ server {target}; keepalive 32; }}
  server {{
    listen 127.0.0.1:{port};
    location = {fixed} {{ default_type text/plain; return 200 "as quick as it gets"; }}
    location / {{
      proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto http; proxy_pass http://web;
    }}
  }}
}}
"""

Row = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=int, default=10, help="duration of each measurement")
    parser.add_argument("--connections", type=int, default=16, help="parallel connections")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    for program in ("wrk", "nginx"):
        if shutil.which(program) is None:
            sys.exit(f"cannot measure: {program} is not installed (Debian: apt-get install wrk nginx-light)")
    with tempfile.TemporaryDirectory(prefix="alva-balancer-", ignore_cleanup_errors=True) as folder:
        rows = measure(Path(folder) / "alva", arguments.seconds, arguments.connections)
    print(json.dumps(rows, indent=2) if arguments.json else as_table(rows))
    if any(row["failed"] for row in rows.values()):
        sys.exit(1)


def measure(project: Path, seconds: int, connections: int) -> dict[str, Row]:
    """Measure every row in a clone of HEAD at `project`."""
    clone(project)
    share_installation(project)
    environment = {**isolated(project), "ALVA_NETWORK": "loopback"}
    edge, proxy = f"http://127.0.0.1:{environment['ALVA_EDGE_PORT']}", f"http://127.0.0.1:{NGINX_PORT}"
    try:
        alva(project, environment, "up")
        target = place_of_web(environment)
        add_fixed_answer(environment)
        with nginx(project.parent, target):
            for url in (f"http://{target}/health", f"{edge}{FIXED_PATH}", f"{proxy}{FIXED_PATH}", f"{proxy}/health"):
                wait_for(url)
            return {
                name: wrk(url, seconds, connections)
                for name, url in {
                    "web, asked directly": f"http://{target}/health",
                    "web, through the load balancer": f"{edge}/health",
                    "web, through nginx": f"{proxy}/health",
                    "fixed answer of the load balancer": f"{edge}{FIXED_PATH}",
                    "fixed answer of nginx": f"{proxy}{FIXED_PATH}",
                }.items()
            }
    finally:
        alva(project, environment, "down")


def place_of_web(environment: Mapping[str, str]) -> str:
    """Return the address and port of web's task."""
    elb = client(environment, "elbv2")
    groups = elb.describe_target_groups()["TargetGroups"]
    group = next(group for group in groups if group["TargetGroupName"].startswith("alva-staging-web-"))
    (health,) = elb.describe_target_health(TargetGroupArn=group["TargetGroupArn"])["TargetHealthDescriptions"]
    return f"{health['Target']['Id']}:{health['Target']['Port']}"


def add_fixed_answer(environment: Mapping[str, str]) -> None:
    elb = client(environment, "elbv2")
    (balancer,) = elb.describe_load_balancers()["LoadBalancers"]
    (listener,) = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
    answer = {"StatusCode": "200", "ContentType": "text/plain", "MessageBody": "as quick as it gets"}
    elb.create_rule(
        ListenerArn=listener["ListenerArn"],
        Priority=1,
        Conditions=[{"Field": "path-pattern", "PathPatternConfig": {"Values": [FIXED_PATH]}}],
        Actions=[{"Type": "fixed-response", "FixedResponseConfig": answer}],
    )


@contextmanager
def nginx(folder: Path, target: str) -> Iterator[None]:
    """Start nginx with one worker in front of web, with keep-alive and an access log, as Envoy has here."""
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, target=target, port=NGINX_PORT, fixed=FIXED_PATH))
    with subprocess.Popen(["nginx", "-c", str(configuration), "-e", str(folder / "error.log")]) as process:
        try:
            yield
        finally:
            process.terminate()


def wait_for(url: str, seconds: float = 30) -> None:
    """Wait until the URL returns 200."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()  # noqa: S310 - ours
            return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"cannot measure: {url} does not answer: {error}")
            time.sleep(0.1)


def wrk(url: str, seconds: int, connections: int) -> Row:
    """Run wrk, and return its requests per second, latencies in milliseconds and number of failed requests."""
    ended = subprocess.run(
        ["wrk", "--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s", "--latency", url],
        capture_output=True,
        text=True,
        check=True,
    )
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", ended.stdout)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", ended.stdout)
    return {
        "requests_per_second": float(found(r"Requests/sec:\s+([\d.]+)", ended.stdout)[0]),
        "p50_ms": milliseconds(*found(r"50%\s+([\d.]+)(us|ms|s)", ended.stdout)),
        "p99_ms": milliseconds(*found(r"99%\s+([\d.]+)(us|ms|s)", ended.stdout)),
        "failed": (int(bad[1]) if bad else 0) + (sum(map(int, errors.groups())) if errors else 0),
    }


def found(pattern: str, text: str) -> tuple[str, ...]:
    match = re.search(pattern, text)
    if match is None:
        sys.exit(f"cannot measure: wrk printed\n{text}")
    return match.groups()


def milliseconds(value: str, unit: str) -> float:
    return float(value) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[unit]


def as_table(rows: Mapping[str, Row]) -> str:
    lines = [f"{'':34}  {'req/s':>8}  {'p50 ms':>8}  {'p99 ms':>8}  {'failed':>6}"]
    lines += [
        f"{name:34}  {row['requests_per_second']:8.0f}  {row['p50_ms']:8.2f}  {row['p99_ms']:8.2f}"
        f"  {row['failed']:6.0f}"
        for name, row in rows.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
