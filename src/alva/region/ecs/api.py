"""The ECS API over HTTP, in JSON 1.1. Every input is checked before anything changes."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from ministack.core.responses import get_account_id, get_region

from alva.region import json_protocol
from alva.region.aws_error import AwsError
from alva.region.constraints import service_model
from alva.region.control_plane import ControlPlane
from alva.region.ecs import shapes, support
from alva.region.ecs.calls import (
    clusters,
    execute_command,
    service_deployments,
    services,
    tags,
    task_definitions,
    tasks,
)
from alva.region.ecs.controller import Controller
from alva.region.ecs.errors import EcsError, not_honoured
from alva.region.ecs.exec_sessions import ExecSessions
from alva.region.ecs.model import Json
from alva.region.ecs.state import State

Call = Callable[[Json], Json | Awaitable[Json]]

_REFUSED = {
    "UpdateTaskProtection": "task scale-in protection (UpdateTaskProtection)",
    "StartTask": "container instances (StartTask): Fargate alone",
}

READS: Mapping[str, Callable[[State, Json], Json]] = {
    "DescribeCapacityProviders": clusters.describe_capacity_providers,
    "DescribeClusters": clusters.describe_clusters,
    "DescribeServiceDeployments": service_deployments.describe_service_deployments,
    "DescribeServiceRevisions": service_deployments.describe_service_revisions,
    "DescribeServices": services.describe_services,
    "DescribeTaskDefinition": task_definitions.describe_task_definition,
    "DescribeTasks": tasks.describe_tasks,
    "ListClusters": clusters.list_clusters,
    "ListServiceDeployments": service_deployments.list_service_deployments,
    "ListServices": services.list_services,
    "ListTagsForResource": tags.list_tags_for_resource,
    "ListTaskDefinitionFamilies": task_definitions.list_task_definition_families,
    "ListTaskDefinitions": task_definitions.list_task_definitions,
    "ListTasks": tasks.list_tasks,
}
"""The actions that also work for another account or region, which has no records."""


class Api:
    """The actions of ECS. `call` is for our own code, `handle_request` for HTTP; `port` is where clients reach it."""

    def __init__(
        self, state: State, controller: Controller, control_plane: ControlPlane, sessions: ExecSessions, port: int
    ) -> None:
        self._home = (state.account_id, state.region)
        running = (state, controller)
        outward = (state, controller, control_plane)
        self._calls: dict[str, Call] = {
            **{name: partial(call, state) for name, call in READS.items()},
            "CreateCluster": partial(clusters.create_cluster, state),
            "UpdateCluster": partial(clusters.update_cluster, state),
            "UpdateClusterSettings": partial(clusters.update_cluster, state),
            "PutClusterCapacityProviders": partial(clusters.put_cluster_capacity_providers, state),
            "DeleteCluster": partial(clusters.delete_cluster, state),
            "RegisterTaskDefinition": partial(task_definitions.register_task_definition, state),
            "DeregisterTaskDefinition": partial(task_definitions.deregister_task_definition, state),
            "DeleteTaskDefinitions": partial(task_definitions.delete_task_definitions, state),
            "CreateService": partial(services.create_service, *outward),
            "UpdateService": partial(services.update_service, *outward),
            "DeleteService": partial(services.delete_service, *running),
            "StopServiceDeployment": partial(service_deployments.stop_service_deployment, *running),
            "RunTask": partial(tasks.run_task, *outward),
            "StopTask": partial(tasks.stop_task, *running),
            "ExecuteCommand": partial(execute_command.execute_command, *outward, sessions, port),
            "TagResource": partial(tags.tag_resource, state),
            "UntagResource": partial(tags.untag_resource, state),
        }

    async def call(self, action: str, request: Json) -> Json:
        """Carry out an action for the running request's account and region. Raises EcsError, as AWS would answer."""
        if action in _REFUSED:
            raise not_honoured(_REFUSED[action])
        if action not in self._calls:
            if action in service_model("ecs").operation_names:
                raise not_honoured(f"the action {action}")
            raise EcsError("UnknownOperationException", f"Unknown operation: {action}")
        call, scope = self._calls[action], (get_account_id(), get_region())
        if scope != self._home:
            if action not in READS:
                raise not_honoured(f"{action} outside account {self._home[0]} and region {self._home[1]}")
            call = partial(READS[action], State(*scope))
        request = shapes.without_nulls(request)
        shapes.check_types(action, request)
        shapes.check_honoured(request, support.ACTIONS[action])
        answer = call(request)
        if inspect.isawaitable(answer):
            answer = await answer
        return answer

    async def handle_request(
        self,
        method: str,  # noqa: ARG002 - MiniStack's signature of a service
        path: str,  # noqa: ARG002
        headers: dict[str, str],
        body: bytes,
        query_params: dict[str, object],  # noqa: ARG002
    ) -> json_protocol.Response:
        """Answer one request."""
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        try:
            return json_protocol.answer(await self.call(action, json_protocol.read(body)))
        except AwsError as error:
            return json_protocol.refuse(error)
