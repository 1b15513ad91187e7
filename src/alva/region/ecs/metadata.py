"""The task metadata endpoint, version 4: serves metadata to containers at a link-local address.

Only in a network with namespaces. As on AWS, neither security groups nor routes affect it.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate.html
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime

from alva.region.control_plane import ControlPlane
from alva.region.ecs.model import Container, Json, Task
from alva.region.ecs.state import State
from alva.region.network import Network

ADDRESS, PORT = "169.254.170.2", 80
VARIABLE = "ECS_CONTAINER_METADATA_URI_V4"
_REQUEST_SECONDS = 5.0
_LONGEST_REQUEST_BYTES = 16_384


def uri(container: Container) -> str:
    """The value of `VARIABLE` in a container."""
    return f"http://{ADDRESS}/v4/{_id(container)}"


def container_metadata(task: Task, container: Container, definition: Json, block: str) -> Json:
    """The endpoint's response for a container; unknown members are left out.

    `block` is the CIDR block of the task's subnet.
    """
    configured = next(c for c in definition["containerDefinitions"] if c["name"] == container.name)
    log = configured.get("logConfiguration") or {}
    shown = {
        "DockerId": container.runtime_id,
        "Name": container.name,
        "DockerName": container.name,
        "Image": container.image,
        "ImageID": container.image_digest,
        "Labels": {
            "com.amazonaws.ecs.cluster": task.cluster_arn,
            "com.amazonaws.ecs.container-name": container.name,
            "com.amazonaws.ecs.task-arn": task.arn,
            "com.amazonaws.ecs.task-definition-family": definition["family"],
            "com.amazonaws.ecs.task-definition-version": str(definition["revision"]),
        },
        "DesiredStatus": task.desired_status,
        "KnownStatus": container.last_status,
        "ExitCode": container.exit_code,
        "Limits": {
            "CPU": int(configured.get("cpu") or 0),
            **({"Memory": int(configured["memory"])} if configured.get("memory") else {}),
        },
        "CreatedAt": _time(task.pull_stopped_at),
        "StartedAt": _time(task.pull_stopped_at) if container.runtime_id else None,
        "Type": "NORMAL",
        "LogDriver": log.get("logDriver"),
        "LogOptions": log.get("options"),
        "ContainerARN": container.arn,
        "Networks": [_network(task, block)],
    }
    return {name: value for name, value in shown.items() if value is not None}


def task_metadata(task: Task, definition: Json, block: str) -> Json:
    """The endpoint's response for a task, with its containers."""
    shown = {
        "Cluster": task.cluster_arn,
        "TaskARN": task.arn,
        "Family": definition["family"],
        "Revision": str(definition["revision"]),
        "ServiceName": task.group.removeprefix("service:") if task.group.startswith("service:") else None,
        "DesiredStatus": task.desired_status,
        "KnownStatus": str(task.last_status),
        "Limits": {"CPU": int(definition["cpu"]) / 1024, "Memory": int(definition["memory"])},
        "PullStartedAt": _time(task.pull_started_at),
        "PullStoppedAt": _time(task.pull_stopped_at),
        "AvailabilityZone": task.availability_zone,
        "LaunchType": task.launch_type or "FARGATE",
        "Containers": [container_metadata(task, container, definition, block) for container in task.containers],
    }
    return {name: value for name, value in shown.items() if value is not None}


class MetadataEndpoint:
    """Serves each container the metadata of its own task, which it finds by the client's address."""

    def __init__(self, network: Network, control_plane: ControlPlane, state: State) -> None:
        self._network = network
        self._control_plane = control_plane
        self._state = state
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Start to serve, if the network has the address."""
        if not self._network.is_enforced:
            return
        await self._network.serve_all_interfaces(ADDRESS, PORT)
        listener = self._network.socket()
        listener.bind((ADDRESS, PORT))
        self._server = await asyncio.start_server(self._answer, sock=listener, limit=_LONGEST_REQUEST_BYTES)

    async def stop(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def answer(self, path: str, address: str) -> Json | None:
        """The response for a path and a client's address; None where there is none."""
        attached = (each for each in self._state.tasks.values() if each.attachment_status == "ATTACHED")
        task = next((each for each in attached if each.address == address), None)
        if task is None:
            return None
        definition = self._state.task_definitions[task.task_definition_arn]
        block = await self._block_of(task)
        for container in task.containers:
            if path == f"/v4/{_id(container)}":
                return container_metadata(task, container, definition, block)
            if path == f"/v4/{_id(container)}/task":
                return task_metadata(task, definition, block)
        return None

    async def _block_of(self, task: Task) -> str:
        """The CIDR block of a task's subnet, empty if the subnet was deleted."""
        filters = [{"Name": "subnet-id", "Values": [task.subnet_id]}]
        subnets = (await self._control_plane.call("ec2", "DescribeSubnets", Filters=filters))["Subnets"]
        return str(subnets[0]["CidrBlock"]) if subnets else ""

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(_REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                method, _, rest = head.decode("latin-1").partition(" ")
                path = rest.partition(" ")[0].partition("?")[0].rstrip("/")
                found = await self.answer(path, writer.get_extra_info("peername")[0]) if method == "GET" else None
                status, body = ("404 Not Found", b"") if found is None else ("200 OK", json.dumps(found).encode())
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                    "Connection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        writer.close()


def _network(task: Task, block: str) -> Json:
    first, _, length = block.partition("/")
    gateway = f"{first.rpartition('.')[0]}.{int(first.rpartition('.')[2]) + 1}/{length}" if block else ""
    return {
        "NetworkMode": "awsvpc",
        "IPv4Addresses": [task.address],
        "AttachmentIndex": 0,
        "MACAddress": task.mac_address,
        "IPv4SubnetCIDRBlock": block,
        "PrivateDNSName": f"ip-{(task.address or '').replace('.', '-')}.ec2.internal",
        "SubnetGatewayIpv4Address": gateway,
    }


def _id(container: Container) -> str:
    return container.arn.rpartition("/")[2]


def _time(seconds: float | None) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z") if seconds is not None else None
