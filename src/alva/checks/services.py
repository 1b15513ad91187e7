"""Finds the resources of each service in the templates, from its `AWS::ECS::Service`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from alva.checks.assembly import Assembly, Resource
from alva.errors import AlvaError


@dataclass(frozen=True, kw_only=True)
class Container:
    """A container definition."""

    name: str
    image: str
    ports: tuple[int, ...]
    environment: Mapping[str, str]
    secrets: Mapping[str, object]
    """Variable -> the resolved ValueFrom."""
    log_group: object
    volumes: tuple[str, ...]
    """The mount paths of writable volumes."""


@dataclass(frozen=True, kw_only=True)
class DeployedService:
    """A service of the manifest with its resources."""

    name: str
    manifest: Mapping[str, Any]
    service: Resource
    task_definition: Resource
    target_group: Resource | None
    """None for a worker, which gets no requests."""

    @property
    def containers(self) -> tuple[Container, ...]:
        return tuple(containers_of(self.task_definition))

    @property
    def main_container(self) -> Container:
        """The load balancer's container; the first one of a worker."""
        for balancer in self.service.properties.get("LoadBalancers", []):
            return next(each for each in self.containers if each.name == balancer["ContainerName"])
        return self.containers[0]


def containers_of(task_definition: Resource) -> Iterator[Container]:
    """Yield the containers of a task definition."""
    for each in task_definition.properties["ContainerDefinitions"]:
        yield Container(
            name=each["Name"],
            image=str(each["Image"]),
            ports=tuple(mapping["ContainerPort"] for mapping in each.get("PortMappings", [])),
            environment={pair["Name"]: str(pair["Value"]) for pair in each.get("Environment", [])},
            secrets={secret["Name"]: secret["ValueFrom"] for secret in each.get("Secrets", [])},
            log_group=each.get("LogConfiguration", {}).get("Options", {}).get("awslogs-group"),
            volumes=tuple(
                mount["ContainerPath"] for mount in each.get("MountPoints", []) if not mount.get("ReadOnly", False)
            ),
        )


def deployed_services(assembly: Assembly) -> list[DeployedService]:
    """Return the services of the manifest, in order. Raises AlvaError for one that the templates lack."""
    by_name = {each.properties["ServiceName"]: each for each in assembly.of_type("ECS::Service")}
    found = []
    for entry in assembly.manifest["services"]:
        service = by_name.get(entry["service"])
        if service is None:
            raise AlvaError(f"cannot find the service {entry['service']} in the templates", next_step="./alva synth")
        balancers = service.properties.get("LoadBalancers", [])
        task_definition = assembly.target(service.properties["TaskDefinition"])
        target_group = assembly.target(balancers[0]["TargetGroupArn"]) if len(balancers) == 1 else None
        if task_definition is None or (target_group is None) != (entry["port"] is None):
            raise AlvaError(
                f"cannot check {service}: the templates lack its task definition or its target group",
                next_step="correct infrastructure/, then ./alva synth",
            )
        found.append(
            DeployedService(
                name=entry["name"],
                manifest=entry,
                service=service,
                task_definition=task_definition,
                target_group=target_group,
            )
        )
    return found
