"""Service discovery: registers tasks as instances of Cloud Map services, and publishes their DNS names."""

from __future__ import annotations

import logging

from alva.region.control_plane import ControlPlane, ServiceError
from alva.region.ecs.errors import invalid_parameter
from alva.region.ecs.model import Task
from alva.region.names import Names

logger = logging.getLogger(__name__)


class Discovery:
    """Updates Cloud Map and the region's DNS names with the healthy tasks."""

    def __init__(self, control_plane: ControlPlane, names: Names) -> None:
        self._control_plane = control_plane
        self._names = names
        self._registered: dict[str, dict[str, str]] = {}
        """DNS name -> task id -> address of each healthy task."""

    async def dns_name(self, registry_arn: str) -> str:
        """`service.namespace` of a Cloud Map service. Raises InvalidParameterException when there is none."""
        service_id = registry_arn.rpartition("/")[2]
        try:
            service = (await self._control_plane.call("servicediscovery", "GetService", Id=service_id))["Service"]
            namespace_id = service.get("NamespaceId") or service["DnsConfig"]["NamespaceId"]
            namespace = await self._control_plane.call("servicediscovery", "GetNamespace", Id=namespace_id)
        except ServiceError as error:
            raise invalid_parameter(f"Unable to find registry {registry_arn}: {error.message}") from error
        return f"{service['Name']}.{namespace['Namespace']['Name']}"

    async def register(self, task: Task, registry_arn: str, attributes: dict[str, str], *, is_healthy: bool) -> None:
        """Register the task as an instance. The name resolves to it only while it is healthy."""
        assert task.address is not None  # noqa: S101 - a task registers after its interface is attached
        await self._control_plane.call(
            "servicediscovery",
            "RegisterInstance",
            ServiceId=registry_arn.rpartition("/")[2],
            InstanceId=task.id,
            Attributes={"AWS_INSTANCE_IPV4": task.address, **attributes},
        )
        await self.set_health(task, registry_arn, is_healthy=is_healthy)

    async def set_health(self, task: Task, registry_arn: str, *, is_healthy: bool) -> None:
        """Set the instance's health in Cloud Map, and add the task to the name or remove it."""
        try:
            await self._control_plane.call(
                "servicediscovery",
                "UpdateInstanceCustomHealthStatus",
                ServiceId=registry_arn.rpartition("/")[2],
                InstanceId=task.id,
                Status="HEALTHY" if is_healthy else "UNHEALTHY",
            )
        except ServiceError as error:
            if error.code != "CustomHealthNotFound":
                raise
        name = await self.dns_name(registry_arn)
        instances = self._registered.setdefault(name, {})
        if is_healthy and task.address is not None:
            instances[task.id] = task.address
        else:
            instances.pop(task.id, None)
        self._names.publish(name, sorted(instances.values()))

    async def deregister(self, task: Task, registry_arn: str) -> None:
        """Remove the task from Cloud Map and from its name; a task that is not registered is ignored."""
        service_id = registry_arn.rpartition("/")[2]
        for name, instances in self._registered.items():
            if instances.pop(task.id, None) is not None:
                self._names.publish(name, sorted(instances.values()))
        try:
            await self._control_plane.call(
                "servicediscovery", "DeregisterInstance", ServiceId=service_id, InstanceId=task.id
            )
        except ServiceError as error:
            logger.info("cannot deregister task %s from %s: %s", task.id, registry_arn, error)
