"""The region's times and memory with 4, 10, 20 and 40 services.

    .venv/bin/python benchmarks/many_services.py [--services 10 20 40] [--json]

Runs in a clone, with a home and ports of its own. Each additional service has web's image, its own target group and its
own rule at the same load balancer. All are created at once through AWS's API, and are ready when ECS reports every
deployment as COMPLETED and the load balancer answers for each. The time of `status` includes the start of the command;
a release is a new deployment of one service. Memory is the proportional set size of the region with all its children,
and of the region's own process.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figures import alva, clone, isolated, proportional_set_kilobytes, resident_megabytes, share_installation, timed
from releases import CLUSTER, WEB, client

PATIENCE_SECONDS = 600.0
TAKEN_OVER = (
    "cpu",
    "memory",
    "networkMode",
    "requiresCompatibilities",
    "runtimePlatform",
    "volumes",
    "taskRoleArn",
    "executionRoleArn",
)
"""The fields that are copied from web's task definition."""

Row = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--services", type=int, nargs="+", default=[10, 20, 40], help="numbers of services, ascending")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alva-many-", ignore_cleanup_errors=True) as folder:
        rows = measure(Path(folder) / "alva", arguments.services)
    print(json.dumps(rows, indent=2) if arguments.json else as_table(rows))


def measure(project: Path, sizes: list[int]) -> dict[int, Row]:
    """Measure one row for each number of services, in a clone of HEAD at `project`."""
    clone(project)
    share_installation(project)
    environment = isolated(project)
    rows: dict[int, Row] = {}
    try:
        seconds = timed(lambda: alva(project, environment, "up"))
        services = ["alva-web", "alva-api", "alva-auth", "alva-admin"]
        rows[len(services)] = row(project, environment, seconds)
        for size in sizes:
            more = [f"more-{number}" for number in range(len(services), size)]
            started = time.monotonic()
            for name in more:
                add_service(environment, name)
            wait_for_all(environment, more)
            services += more
            rows[size] = row(project, environment, time.monotonic() - started)
    finally:
        alva(project, environment, "down")
    return rows


def row(project: Path, environment: Mapping[str, str], seconds: float) -> Row:
    time.sleep(5)  # At rest: the tasks have finished their start.
    home = Path(environment["ALVA_HOME"])
    region = int(json.loads((home / "region.json").read_text())["pid"])
    status = timed(lambda: alva(project, environment, "status"))
    released = timed(lambda: release_again(environment, WEB))
    return {
        "seconds": seconds,
        "status": status,
        "release": released,
        "all_megabytes": resident_megabytes(home),
        "region_megabytes": proportional_set_kilobytes(region) / 1024,
    }


def add_service(environment: Mapping[str, str], name: str) -> None:
    """Create a copy of web at /<name>."""
    ecs, elb = client(environment, "ecs"), client(environment, "elbv2")
    (web,) = ecs.describe_services(cluster=CLUSTER, services=[WEB])["services"]
    definition = ecs.describe_task_definition(taskDefinition=web["taskDefinition"])["taskDefinition"]
    container: dict[str, Any] = definition["containerDefinitions"][0]
    variables = [{**each, "value": f"/{name}"} if each["name"] == "PATH_PREFIX" else each
                 for each in container["environment"]]  # fmt: skip
    registered = ecs.register_task_definition(
        family=name,
        containerDefinitions=[{**container, "environment": variables}],
        **{key: definition[key] for key in TAKEN_OVER if key in definition},
    )["taskDefinition"]["taskDefinitionArn"]
    (load_balancer,) = web["loadBalancers"]
    (pattern,) = elb.describe_target_groups(TargetGroupArns=[load_balancer["targetGroupArn"]])["TargetGroups"]
    (group,) = elb.create_target_group(
        Name=name, TargetType="ip", Protocol="HTTP", Port=pattern["Port"], VpcId=pattern["VpcId"],
        HealthCheckPath=pattern["HealthCheckPath"], HealthCheckIntervalSeconds=pattern["HealthCheckIntervalSeconds"],
        HealthCheckTimeoutSeconds=pattern["HealthCheckTimeoutSeconds"], HealthyThresholdCount=2,
        UnhealthyThresholdCount=2,
    )["TargetGroups"]  # fmt: skip
    (listener,) = elb.describe_listeners(LoadBalancerArn=pattern["LoadBalancerArns"][0])["Listeners"]
    elb.create_rule(
        ListenerArn=listener["ListenerArn"],
        Priority=1000 + int(name.partition("-")[2]),
        Conditions=[{"Field": "path-pattern", "PathPatternConfig": {"Values": [f"/{name}", f"/{name}/*"]}}],
        Actions=[{"Type": "forward", "TargetGroupArn": group["TargetGroupArn"]}],
    )
    ecs.create_service(
        cluster=CLUSTER, serviceName=name, taskDefinition=registered, desiredCount=1,
        networkConfiguration=web["networkConfiguration"], healthCheckGracePeriodSeconds=300,
        capacityProviderStrategy=web["capacityProviderStrategy"],
        loadBalancers=[{**load_balancer, "targetGroupArn": group["TargetGroupArn"]}],
    )  # fmt: skip


def wait_for_all(environment: Mapping[str, str], names: list[str]) -> None:
    """Wait until each service's deployment is COMPLETED and each answers through the load balancer."""
    ecs, deadline = client(environment, "ecs"), time.monotonic() + PATIENCE_SECONDS
    waiting = list(names)
    while waiting:
        if time.monotonic() > deadline:
            sys.exit(f"cannot measure: {', '.join(waiting)} did not get ready within {PATIENCE_SECONDS:.0f} s")
        services = ecs.describe_services(cluster=CLUSTER, services=waiting[:10])["services"]
        ready = {s["serviceName"] for s in services if [d["rolloutState"] for d in s["deployments"]] == ["COMPLETED"]}
        waiting = [name for name in waiting if name not in ready]
        if not ready:
            time.sleep(0.2)
    for name in names:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{environment['ALVA_EDGE_PORT']}/{name}/", timeout=30).close()
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                sys.exit(f"cannot measure: {name} answers {error.code}")


def release_again(environment: Mapping[str, str], name: str) -> None:
    """Deploy a service again, and return the seconds from UpdateService to COMPLETED."""
    client(environment, "ecs").update_service(cluster=CLUSTER, service=name, forceNewDeployment=True)
    wait_for_all(environment, [name])


def as_table(rows: Mapping[int, Row]) -> str:
    lines = [f"{'services':>8}  {'up, s':>8}  {'status, s':>9}  {'release, s':>10}  {'all, MB':>8}  {'region, MB':>10}"]
    lines += [
        f"{size:8}  {row['seconds']:8.1f}  {row['status']:9.2f}  {row['release']:10.1f}"
        f"  {row['all_megabytes']:8.0f}  {row['region_megabytes']:10.0f}"
        for size, row in rows.items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
