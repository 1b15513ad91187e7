"""CloudFormation's ECS types: clusters, task definitions, and services whose operations wait for the deployment.

https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/AWS_ECS.html
"""

from __future__ import annotations

import asyncio
from typing import Any

from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.inputs import from_properties
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry, announce
from alva.region.constraints import service_model
from alva.region.ecs.api import Api
from alva.region.ecs.controller import Controller
from alva.region.ecs.errors import EcsError
from alva.region.ecs.model import Json, RolloutState, Service, ServiceDeployment, ServiceDeploymentStatus
from alva.region.ecs.state import State, new_short_id

STABILISATION_SECONDS = 3 * 3600.0
"""How long CloudFormation waits for a service to become stable."""


def install(registry: Registry, api: Api, controller: Controller, state: State) -> None:
    """Register the types."""
    types = _Types(api, controller, state)
    registry.register(
        "AWS::ECS::Cluster",
        Handlers(create=types.create_cluster, update=types.update_cluster, delete=types.delete_cluster),
    )
    registry.register(
        "AWS::ECS::ClusterCapacityProviderAssociations",
        Handlers(create=types.create_associations, update=types.update_associations, delete=types.delete_associations),
    )
    registry.register(
        "AWS::ECS::TaskDefinition",
        Handlers(
            create=types.create_task_definition,
            update=types.update_task_definition,
            delete=types.delete_task_definition,
        ),
    )
    registry.register(
        "AWS::ECS::Service",
        Handlers(
            create=types.create_service,
            update=types.update_service,
            delete=types.delete_service,
        ),
    )
    registry.detect_drift("AWS::ECS::Service", types.read_service, {"DesiredCount", "TaskDefinition"})


def request_from(action: str, properties: Properties) -> Json:
    """The action's input from a resource's properties; a property that the action does not have is refused."""
    shape = service_model("ecs").operation_model(action).input_shape
    assert shape is not None  # noqa: S101 - every action used here has one
    request: Json = from_properties(properties, shape)
    return request


class _Types:
    def __init__(self, api: Api, controller: Controller, state: State) -> None:
        self._api = api
        self._controller = controller
        self._state = state

    async def _call(self, action: str, request: Json) -> Json:
        if "tags" in request:
            # Callers cannot set CloudFormation's own tags (aws:cloudformation:...): `_set_tags` adds them.
            own = [tag for tag in request["tags"] if not tag["key"].startswith("aws:")]
            request = {**request, "tags": own}
        try:
            return await self._api.call(action, request)
        except EcsError as error:
            code = {
                "ClusterNotFoundException": "NotFound",
                "ServiceNotFoundException": "NotFound",
                "ServiceNotActiveException": "NotFound",
                "InvalidParameterException": "InvalidRequest",
                "ClientException": "InvalidRequest",
            }.get(error.code, "GeneralServiceException")
            raise HandlerFailed(
                f"{error.message} (Service: AmazonECS; Status Code: {error.status}; Error Code: {error.code})", code
            ) from error

    # Clusters

    async def create_cluster(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        name = properties.get("ClusterName") or _generated_name(stack_name, logical_id)
        existing = self._state.clusters.get(name)
        if existing is not None and existing.status == "ACTIVE":
            raise HandlerFailed(
                f"Resource of type 'AWS::ECS::Cluster' with identifier '{name}' already exists.", "AlreadyExists"
            )
        request = request_from("CreateCluster", {**_renamed(properties), "ClusterName": name})
        answer = await self._call("CreateCluster", request)
        self._set_tags(answer["cluster"]["clusterArn"], properties)
        return self._cluster(answer)

    async def update_cluster(self, physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG002
        changeable = {
            k: v for k, v in _renamed(new).items() if k in ("Settings", "Configuration", "ServiceConnectDefaults")
        }
        request = request_from("UpdateCluster", {**changeable, "Cluster": physical_id})
        answer = await self._call("UpdateCluster", request)
        if "CapacityProviders" in new:
            await self._put_providers(physical_id, new)
        self._set_tags(answer["cluster"]["clusterArn"], new)
        return self._cluster(answer)

    def _cluster(self, answer: Json) -> Provisioned:
        return answer["cluster"]["clusterName"], {"Arn": answer["cluster"]["clusterArn"]}

    async def delete_cluster(self, physical_id: str, properties: Properties) -> None:  # noqa: ARG002
        if (found := self._state.clusters.get(physical_id)) is not None and found.status == "ACTIVE":
            await self._call("DeleteCluster", {"cluster": physical_id})

    async def _put_providers(self, cluster: str, properties: Properties) -> None:
        request = request_from(
            "PutClusterCapacityProviders",
            {
                "Cluster": cluster,
                "CapacityProviders": properties.get("CapacityProviders") or [],
                "DefaultCapacityProviderStrategy": properties.get("DefaultCapacityProviderStrategy") or [],
            },
        )
        await self._call("PutClusterCapacityProviders", request)

    async def create_associations(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:  # noqa: ARG002
        await self._put_providers(properties["Cluster"], properties)
        return str(properties["Cluster"]), {}

    async def update_associations(
        self,
        physical_id: str,
        old: Properties,  # noqa: ARG002
        new: Properties,
        stack_name: str,  # noqa: ARG002
    ) -> Provisioned:
        await self._put_providers(physical_id, new)
        return physical_id, {}

    async def delete_associations(self, physical_id: str, properties: Properties) -> None:  # noqa: ARG002
        found = self._state.clusters.get(physical_id.rpartition("/")[2])
        if found is not None and found.status == "ACTIVE":
            await self._put_providers(physical_id, {})

    # Task definitions

    async def create_task_definition(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        family = properties.get("Family") or _generated_name(stack_name, logical_id)
        request = request_from("RegisterTaskDefinition", {**properties, "Family": family})
        arn = (await self._call("RegisterTaskDefinition", request))["taskDefinition"]["taskDefinitionArn"]
        self._set_tags(arn, properties)
        return arn, {"TaskDefinitionArn": arn}

    async def update_task_definition(
        self, physical_id: str, old: Properties, new: Properties, stack_name: str
    ) -> Provisioned:
        """Everything but the tags is a replacement: a new revision."""
        if _without(old, "Tags") == _without(new, "Tags"):
            self._set_tags(physical_id, new)
            return physical_id, {"TaskDefinitionArn": physical_id}
        family = physical_id.rpartition("/")[2].partition(":")[0]
        return await self.create_task_definition(family, {"Family": family, **new}, stack_name)

    async def delete_task_definition(self, physical_id: str, properties: Properties) -> None:  # noqa: ARG002
        if physical_id in self._state.task_definitions:
            await self._call("DeregisterTaskDefinition", {"taskDefinition": physical_id})

    # Services

    async def create_service(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        name = properties.get("ServiceName") or f"{stack_name}-{logical_id}-{new_short_id()[:12]}"
        request = request_from("CreateService", {**_without(properties, "ForceNewDeployment"), "ServiceName": name})
        arn = (await self._call("CreateService", request))["service"]["serviceArn"]
        self._set_tags(arn, properties)
        announce(arn)
        service = self._state.services[arn]
        await self._until_stable(service, service.service_deployments[0])
        return self._service(service)

    async def update_service(self, physical_id: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:  # noqa: ARG002
        service = self._state.services.get(physical_id)
        if service is None or service.status != "ACTIVE":
            raise HandlerFailed(
                f"Resource of type 'AWS::ECS::Service' with identifier '{physical_id}' was not found.", "NotFound"
            )
        before = service.service_deployments[0]
        changeable = _without(
            new, "ServiceName", "Cluster", "LaunchType", "SchedulingStrategy", "Role", "Tags", "ForceNewDeployment"
        )
        request = request_from("UpdateService", {**changeable, "Cluster": service.cluster_arn, "Service": service.name})
        forced = new.get("ForceNewDeployment") or {}
        if forced.get("EnableForceNewDeployment") and forced != old.get("ForceNewDeployment"):
            request["forceNewDeployment"] = True
        for removable in ("loadBalancers", "serviceRegistries"):
            # Remove properties that the template no longer has. UpdateService alone would keep their values.
            if removable not in request:
                request[removable] = []
        await self._call("UpdateService", request)
        self._set_tags(physical_id, new)
        latest = service.service_deployments[0]
        if latest is not before or not latest.status.is_final:
            await self._until_stable(service, latest)
        elif service.primary.rollout_state is RolloutState.COMPLETED:
            await self._until(lambda: service.is_steady or service.status != "ACTIVE")
        return self._service(service)

    def read_service(self, arn: str, properties: Properties) -> Properties | None:
        """The properties of a service that drift detection compares."""
        del properties
        service = self._state.services.get(arn)
        if service is None or service.status != "ACTIVE":
            return None
        revision = service.revision(service.primary.revision_arn)
        return {"DesiredCount": service.desired_count, "TaskDefinition": revision.task_definition_arn}

    def _service(self, service: Service) -> Provisioned:
        return service.arn, {"Name": service.name, "ServiceArn": service.arn}

    async def _until_stable(self, service: Service, deployment: ServiceDeployment) -> None:
        await self._until(lambda: deployment.status.is_final or service.status != "ACTIVE")
        if deployment.status is ServiceDeploymentStatus.SUCCESSFUL:
            return
        if "TRIGGERED" in (deployment.breaker_status, deployment.alarms_status):
            what = "Circuit Breaker" if deployment.breaker_status == "TRIGGERED" else "Alarm"
            raise HandlerFailed(
                f"Error occurred during operation 'ECS Deployment {what} was triggered'.", "GeneralServiceException"
            )
        raise HandlerFailed(
            f"Error occurred during operation 'ECS Deployment {deployment.status}': {deployment.status_reason}",
            "GeneralServiceException",
        )

    async def _until(self, predicate: Any) -> None:
        try:
            async with asyncio.timeout(STABILISATION_SECONDS):
                await self._controller.wait_until(predicate)
        except TimeoutError:
            raise HandlerFailed("Exceeded attempts to wait", "NotStabilized") from None

    async def delete_service(self, physical_id: str, properties: Properties) -> None:  # noqa: ARG002
        service = self._state.services.get(physical_id)
        if service is None:
            return
        if service.status == "ACTIVE":
            request = {"cluster": service.cluster_arn, "service": service.name, "force": True}
            await self._call("DeleteService", request)
        await self._until(lambda: service.status == "INACTIVE")

    def _set_tags(self, arn: str, properties: Properties) -> None:
        self._state.tags[arn] = {tag["Key"]: tag["Value"] for tag in properties.get("Tags") or []}


def _renamed(cluster: Properties) -> Properties:
    """A cluster's properties under the API's names: only ClusterSettings differs."""
    return {("Settings" if key == "ClusterSettings" else key): value for key, value in cluster.items()}


def _generated_name(stack_name: str, logical_id: str) -> str:
    return f"{stack_name}-{logical_id}-{new_short_id()[:12]}"


def _without(properties: Properties, *names: str) -> Properties:
    return {key: value for key, value in properties.items() if key not in names}
