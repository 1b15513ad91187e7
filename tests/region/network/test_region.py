"""A whole region with a network of its own: tasks, changes through the API, side by side, killed."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alva.region import daemon
from alva.region.network.mode import missing
from tests.region.ecs.workbench import SERVER, Workbench, running_region, until
from tests.region_network import is_enforced, network_of

pytestmark = [
    pytest.mark.region,
    pytest.mark.skipif(missing() is not None, reason=f"no network namespaces: {missing()}"),
]

SLEEPER = "import time; time.sleep(600)"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    with running_region(tmp_path_factory.mktemp("network")) as bench:
        if not is_enforced(bench.config):
            pytest.skip("ALVA_NETWORK says loopback")
        bench.prepare()
        yield bench


def address_of(task: dict[str, Any]) -> str:
    details = {each["name"]: each["value"] for each in task["attachments"][0]["details"]}
    return str(details["privateIPv4Address"])


def run(bench: Workbench, program: str, greeting: str = "") -> str:
    """Run a program as a task; its address."""
    environment = [{"name": "PORT", "value": "3000"}, {"name": "GREETING", "value": greeting}]
    definition = bench.task_definition(
        "program", {"name": "main", "image": bench.image(program), "environment": environment}
    )
    return address_of(bench.running(bench.run(definition)))


@pytest.fixture(scope="module")
def server(bench: Workbench) -> str:
    """The address of a task that serves on port 3000."""
    return run(bench, SERVER, "ours")


@pytest.fixture(scope="module")
def client(bench: Workbench, server: str) -> str:  # noqa: ARG001 - it comes after the server
    """The address of a task that does nothing: the tests connect from there."""
    return run(bench, SLEEPER)


def answer(bench: Workbench, source: str, destination: str) -> str:
    """What a process in the task at `source` gets from `destination`, port 3000; empty when it gets no connection."""
    with network_of(bench.config, source):
        try:
            connection = socket.create_connection((destination, 3000), timeout=0.5)
        except OSError:
            return ""
    with connection:
        connection.sendall(b"GET / HTTP/1.0\r\nConnection: close\r\n\r\n")
        connection.settimeout(10)
        return connection.makefile().read().rpartition("\n")[2]


def test_status_says_which_network_and_limits_there_are(bench: Workbench) -> None:
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
    before = namespaces()
    with running_region(tmp_path) as other:
        other.prepare()
        assert run(other, SERVER, "theirs") == server
        until(lambda: answer(other, server, server) == "theirs")
        assert answer(bench, client, server) == "ours"
        made = {namespace_of(pid) for pid in children(daemon.status(other.config).pid)} - before
        assert len(made) >= 2, "the services and a task"
        pid = daemon.status(other.config).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        until(lambda: not namespaces() & made)


def namespaces() -> set[int | None]:
    """The network namespaces that processes of this machine are in."""
    return {namespace_of(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()} - {None}


def namespace_of(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/net").stat().st_ino
    except OSError:
        return None


def children(pid: int | None) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
