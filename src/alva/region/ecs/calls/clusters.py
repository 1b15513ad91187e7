"""Clusters and capacity providers."""

from __future__ import annotations

import re
from functools import partial

from alva.region.ecs import render
from alva.region.ecs.calls.tags import check_tags
from alva.region.ecs.errors import EcsError, invalid_parameter
from alva.region.ecs.model import Cluster, Json
from alva.region.ecs.paging import described, page
from alva.region.ecs.state import State

_NAME = re.compile(r"[a-zA-Z0-9\-_]{1,255}")
CAPACITY_PROVIDERS = ("FARGATE", "FARGATE_SPOT")


def create_cluster(state: State, request: Json) -> Json:
    """CreateCluster; an ACTIVE cluster of the same name is returned as it is, as AWS does."""
    name = request.get("clusterName") or "default"
    if not _NAME.fullmatch(name):
        raise invalid_parameter(f"Cluster must match ^{_NAME.pattern}$, but was {name}")
    tags = check_tags(request.get("tags"))
    existing = state.clusters.get(name)
    if existing is None or existing.status != "ACTIVE":
        existing = Cluster(
            name=name,
            arn=state.arn("cluster", name),
            settings=request.get("settings") or [{"name": "containerInsights", "value": "disabled"}],
            configuration=request.get("configuration"),
            capacity_providers=request.get("capacityProviders") or [],
            default_capacity_provider_strategy=request.get("defaultCapacityProviderStrategy") or [],
        )
        state.clusters[name] = existing
        state.tags[existing.arn] = tags
    return {"cluster": render.cluster(state, existing, ("TAGS", "SETTINGS", "CONFIGURATIONS"))}


def update_cluster(state: State, request: Json) -> Json:
    """UpdateCluster and UpdateClusterSettings."""
    cluster = state.cluster(request["cluster"])
    if request.get("settings"):
        changed = {s["name"]: s for s in request["settings"]}
        cluster.settings = [s for s in cluster.settings if s["name"] not in changed] + list(changed.values())
    if "configuration" in request:
        cluster.configuration = request["configuration"]
    return {"cluster": render.cluster(state, cluster, ("TAGS", "SETTINGS", "CONFIGURATIONS"))}


def put_cluster_capacity_providers(state: State, request: Json) -> Json:
    """PutClusterCapacityProviders."""
    cluster = state.cluster(request["cluster"])
    strategy = request["defaultCapacityProviderStrategy"]
    for item in strategy:
        if item["capacityProvider"] not in request["capacityProviders"]:
            raise invalid_parameter(
                "The specified capacity provider strategy contains a capacity provider that is not associated with "
                "the cluster. Associate the capacity provider with the cluster and try again."
            )
    cluster.capacity_providers = request["capacityProviders"]
    cluster.default_capacity_provider_strategy = strategy
    return {"cluster": render.cluster(state, cluster, ("TAGS", "SETTINGS", "CONFIGURATIONS"))}


def delete_cluster(state: State, request: Json) -> Json:
    """DeleteCluster; refused while services or tasks are left."""
    cluster = state.cluster(request["cluster"])
    if any(s.cluster_arn == cluster.arn and s.status != "INACTIVE" for s in state.services.values()):
        raise EcsError("ClusterContainsServicesException", "The Cluster cannot be deleted while Services are active.")
    if any(t.cluster_arn == cluster.arn and t.stopped_at is None for t in state.tasks.values()):
        raise EcsError("ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
    cluster.status = "INACTIVE"
    return {"cluster": render.cluster(state, cluster)}


def describe_clusters(state: State, request: Json) -> Json:
    """DescribeClusters; unknown ones are failures, not errors."""
    names = [each.rpartition("/")[2] for each in request.get("clusters") or ["default"]]
    rendered = partial(render.cluster, state, include=request.get("include") or ())
    return described(
        "clusters", [(each, state.clusters.get(each)) for each in names], rendered, partial(state.arn, "cluster")
    )


def list_clusters(state: State, request: Json) -> Json:
    """ListClusters."""
    return page("clusterArns", [c.arn for c in state.clusters.values() if c.status == "ACTIVE"], request)


def describe_capacity_providers(state: State, request: Json) -> Json:
    """DescribeCapacityProviders: the two of Fargate."""
    wanted = [r.rpartition("/")[2] for r in request.get("capacityProviders") or CAPACITY_PROVIDERS]
    answer = page(
        "capacityProviders",
        [
            {"capacityProviderArn": state.arn("capacity-provider", name), "name": name, "status": "ACTIVE", "tags": []}
            for name in CAPACITY_PROVIDERS
            if name in wanted
        ],
        request,
    )
    answer["failures"] = [
        {"arn": state.arn("capacity-provider", name), "reason": "MISSING"}
        for name in wanted
        if name not in CAPACITY_PROVIDERS
    ]
    return answer
