"""Finds the connections that the environment needs, and those that security groups and routes block.

The needed connections come from the templates too: a task whose environment names the database connects to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from alva.checks.assembly import Assembly, Resource
from alva.checks.reachability import CACHE, DATABASE, INTERNET, LOAD_BALANCER, reachability
from alva.checks.services import deployed_services

_ENGINES = (("RDS::DBInstance", DATABASE, 5432), ("ElastiCache::ReplicationGroup", CACHE, 6379))
HTTPS_PORT = 443


@dataclass(frozen=True, kw_only=True)
class Path:
    """A needed connection."""

    source: str
    destination: str
    port: int
    reason: str
    subject: Resource

    def __str__(self) -> str:
        return f"{self.source} cannot reach {self.destination} on port {self.port}, needed for {self.reason}"


def missing_paths(assembly: Assembly) -> Iterator[Path]:
    """Yield the needed connections that a security group or a missing route blocks: on AWS they time out."""
    matrix = reachability(assembly)
    for path in needed_paths(assembly):
        if not any(_holds(ports, path.port) for ports in matrix.get((path.source, path.destination), ())):
            yield path


def needed_paths(assembly: Assembly) -> Iterator[Path]:
    """Yield the needed connections: load balancer to service, service to its dependencies, service to the internet.

    A task needs the internet for ECS's images, secrets and logs: on Fargate, they use the task's own interface.
    https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-task-networking.html
    """
    services = deployed_services(assembly)
    calls = {
        f"{service.name}.{assembly.manifest['namespace']}:{port}": (service.name, port)
        for service in services
        for port in service.main_container.ports
    }
    for resource_type, name, default_port in _ENGINES:
        for engine in assembly.of_type(resource_type):
            calls[str(engine.reference).removesuffix("}")] = (name, int(engine.properties.get("Port", default_port)))
    for service in services:
        found = service.service
        for port in service.main_container.ports:
            yield Path(
                source=LOAD_BALANCER,
                destination=service.name,
                port=port,
                reason="its target group",
                subject=found,
            )
        needed: dict[tuple[str, int], str] = {}
        for container in service.containers:
            for variable, value in container.environment.items():
                for named, called in calls.items():
                    if named in value and called[0] != service.name:
                        needed.setdefault(called, f"its {variable}")
        needed[INTERNET, HTTPS_PORT] = "its image, its secrets and its log"
        for (destination, port), reason in needed.items():
            yield Path(source=service.name, destination=destination, port=port, reason=reason, subject=found)


def _holds(ports: str, port: int) -> bool:
    first, _, last = ports.partition("-")
    return int(first) <= port <= int(last or first)
