"""A complete region with its own network: tasks, changes through the API, two regions, a killed region."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alva.region import daemon
from alva.region.network.mode import missing
from tests.region.ecs.workbench import SERVER, Workbench, running_workbench
from tests.region.processes.found import descendants, region_process
from tests.region_network import is_enforced, network_of
from tests.waiting import until

pytestmark = [
    pytest.mark.region,
    pytest.mark.skipif(missing() is not None, reason=f"no network namespaces: {missing()}"),
]

SLEEPER = "import time; time.sleep(600)"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    with running_workbench(tmp_path_factory.mktemp("network")) as bench:
        if not is_enforced(bench.config):
            pytest.skip("ALVA_NETWORK says loopback")
        bench.prepare()
        yield bench


def address_of(task: dict[str, Any]) -> str:
    details = {each["name"]: each["value"] for each in task["attachments"][0]["details"]}
    return str(details["privateIPv4Address"])


def run(bench: Workbench, program: str, greeting: str = "") -> str:
    """Run a program as a task; returns its address."""
    environment = [{"name": "PORT", "value": "3000"}, {"name": "GREETING", "value": greeting}]
    definition = bench.task_definition(
        "program", {"name": "main", "image": bench.image(program), "environment": environment}
    )
    return address_of(bench.running(bench.run(definition)))


@pytest.fixture(scope="module")
def server(bench: Workbench) -> str:
    """The address of a task with a server on port 3000."""
    return run(bench, SERVER, "ours")


@pytest.fixture(scope="module")
def client(bench: Workbench, server: str) -> str:  # noqa: ARG001 - it comes after the server
    """The address of an idle task, from which the tests connect."""
    return run(bench, SLEEPER)


def answer(bench: Workbench, source: str, destination: str) -> str:
    """The answer of `destination`, port 3000, to a process in the task at `source`; empty without a connection."""
    with network_of(bench.config, source):
        try:
            connection = socket.create_connection((destination, 3000), timeout=0.5)
        except OSError:
            return ""
    with connection:
        connection.sendall(b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n")
        connection.settimeout(10)
        return connection.makefile().read().rpartition("\n")[2]


def test_status_shows_the_network_and_the_memory_limits(bench: Workbench) -> None:
    status = daemon.status(bench.config)
    assert status.network == "namespaces, security groups enforced"
    assert status.memory_limits.startswith(("enforced", "not enforced ("))


def test_a_rule_that_is_revoked_through_the_api_stops_new_connections_to_a_running_task(
    bench: Workbench, server: str, client: str
) -> None:
    assert server.startswith(("10.0.10.", "10.0.11."))
    until(lambda: answer(bench, client, server) == "ours")
    ec2 = bench.client("ec2")
    rule = {
        "GroupId": bench.security_group,
        "IpPermissions": [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "10.0.0.0/16"}]}],
    }
    ec2.revoke_security_group_ingress(**rule)
    until(lambda: answer(bench, client, server) == "")
    ec2.authorize_security_group_ingress(**rule)
    until(lambda: answer(bench, client, server) == "ours")


def test_two_regions_have_the_same_addresses_and_one_that_is_killed_leaves_nothing(
    bench: Workbench, server: str, client: str, tmp_path: Path
) -> None:
    with running_workbench(tmp_path) as other:
        other.prepare()
        assert run(other, SERVER, "theirs") == server
        until(lambda: answer(other, server, server) == "theirs")
        assert answer(bench, client, server) == "ours"
        pid = region_process(other.config.home)
        made = {namespace_of(child) for child in descendants(pid)} - {namespace_of(os.getpid()), None}
        assert len(made) >= 2, "the services and a task"
        inside = [each for each in processes() if namespace_of(each) in made]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        # A namespace without a name ends with its last process. The kernel reuses its number.
        until(lambda: not [each for each in inside if namespace_of(each) in made])
        assert not own_interfaces(), "nothing of a region is in the machine's own network"


def processes() -> list[int]:
    """The processes of this machine."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def own_interfaces() -> list[str]:
    """Network interfaces of the machine with names like a region's: v1, v2, ..."""
    return [name for _, name in socket.if_nameindex() if name.startswith("v") and name[1:].isdigit()]


def namespace_of(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


ASK = """
import json, os, urllib.request
uri = os.environ["ECS_CONTAINER_METADATA_URI_V4"]

def get(path):
    try:
        return json.load(urllib.request.urlopen(uri + path, timeout=20))
    except urllib.error.HTTPError as error:
        return error.code

print(json.dumps([get(""), get("/task"), get("/stats"), get("x")]))
"""


def test_container_gets_its_metadata_independent_of_security_groups(bench: Workbench) -> None:
    ec2 = bench.client("ec2")
    closed = ec2.create_security_group(GroupName="closed", Description="closed", VpcId=bench.vpc)["GroupId"]
    ec2.revoke_security_group_egress(
        GroupId=closed, IpPermissions=[{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    )
    definition = bench.task_definition("curious", {"name": "main", "image": bench.image(ASK), "memory": 128})
    network = {"awsvpcConfiguration": {"subnets": bench.subnets[:1], "securityGroups": [closed]}}
    task = bench.stopped(bench.run(definition, networkConfiguration=network))
    (line,) = bench.log_lines(task["taskArn"], "main")
    container, about_task, *others = json.loads(line)
    assert others == [404, 404]
    (seen,) = task["containers"]
    assert container["ContainerARN"] == seen["containerArn"]
    assert container["ImageID"] == seen["imageDigest"]
    assert container["Limits"] == {"CPU": 0, "Memory": 128}
    assert container["LogOptions"]["awslogs-group"] == bench.log_group
    (interface,) = container["Networks"]
    assert interface["IPv4Addresses"] == [address_of(task)]
    assert (interface["IPv4SubnetCIDRBlock"], interface["SubnetGatewayIpv4Address"]) == ("10.0.10.0/24", "10.0.10.1/24")
    assert about_task["TaskARN"] == task["taskArn"]
    assert about_task["Limits"] == {"CPU": 0.25, "Memory": 512}
    assert (about_task["Family"], about_task["LaunchType"]) == ("curious", "FARGATE")
    assert [each["Name"] for each in about_task["Containers"]] == ["main"]


def test_metadata_of_another_task_is_not_served(bench: Workbench, client: str) -> None:
    arns = bench.ecs.list_tasks(cluster=bench.cluster)["taskArns"]
    tasks = {address_of(task): task for task in bench.ecs.describe_tasks(cluster=bench.cluster, tasks=arns)["tasks"]}
    for address, task in tasks.items():
        path = "/v4/" + task["containers"][0]["containerArn"].rpartition("/")[2]
        with network_of(bench.config, client):
            connection = http.client.HTTPConnection("169.254.170.2", timeout=20)
            connection.connect()
        connection.request("GET", path)
        assert connection.getresponse().status == (200 if address == client else 404)
        connection.close()
    assert client in tasks
    assert len(tasks) > 1
