"""Container dependencies inside a task (`dependsOn`): which containers can start, never start, or stop first. Pure.

https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_ContainerDependency.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alva.region.ecs.model import Container, Health, Json


def is_satisfied(condition: str, other: Container) -> bool:
    """Whether a container that depends on `other` under `condition` may start now."""
    if condition == "START":
        return other.last_status != "PENDING"
    if condition == "HEALTHY":
        return other.health is Health.HEALTHY
    if condition == "SUCCESS":
        return other.last_status == "STOPPED" and other.exit_code == 0
    return other.last_status == "STOPPED"  # COMPLETE


def is_impossible(condition: str, other: Container) -> bool:
    """Whether the condition can no longer be met."""
    if condition == "SUCCESS":
        return other.last_status == "STOPPED" and other.exit_code != 0
    if condition == "HEALTHY":
        return other.health is Health.UNHEALTHY or other.last_status == "STOPPED"
    return False


def startable(definitions: Sequence[Json], containers: Mapping[str, Container]) -> list[str]:
    """The names of the containers that can start now."""
    return [
        definition["name"]
        for definition in definitions
        if containers[definition["name"]].last_status == "PENDING"
        and all(is_satisfied(d["condition"], containers[d["containerName"]]) for d in definition.get("dependsOn") or [])
    ]


def blocked(definitions: Sequence[Json], containers: Mapping[str, Container]) -> tuple[str, str, str] | None:
    """A container that can never start: its name, its dependency and the condition."""
    for definition in definitions:
        if containers[definition["name"]].last_status != "PENDING":
            continue
        for dependency in definition.get("dependsOn") or []:
            if is_impossible(dependency["condition"], containers[dependency["containerName"]]):
                return definition["name"], dependency["containerName"], dependency["condition"]
    return None


DEFAULT_START_TIMEOUT_SECONDS = 180.0
"""`startTimeout` of a container definition on Fargate."""


def deadlines(
    definitions: Sequence[Json], containers: Mapping[str, Container], started_at: Mapping[str, float]
) -> list[tuple[float, str, str]]:
    """The start timeouts of waiting containers (time, container, dependency), soonest first.

    The dependency's `startTimeout` applies, from its start on (`started_at`, by name).
    """
    timeouts = {d["name"]: d.get("startTimeout", DEFAULT_START_TIMEOUT_SECONDS) for d in definitions}
    return sorted(
        (started_at[other] + timeouts[other], definition["name"], other)
        for definition in definitions
        if containers[definition["name"]].last_status == "PENDING"
        for other in (d["containerName"] for d in definition.get("dependsOn") or [])
        if other in started_at
    )


def stop_order(definitions: Sequence[Json]) -> list[list[str]]:
    """Groups to stop one after another: a container stops only after those that depend on it.

    Raises ValueError when the dependencies are circular.
    """
    dependents: dict[str, set[str]] = {d["name"]: set() for d in definitions}
    for definition in definitions:
        for dependency in definition.get("dependsOn") or []:
            dependents[dependency["containerName"]].add(definition["name"])
    order: list[list[str]] = []
    while dependents:
        free = [name for name, waiting_for in dependents.items() if not waiting_for & dependents.keys()]
        if not free:
            raise ValueError("Dependency cycle between containers: " + ", ".join(sorted(dependents)))
        order.append(free)
        for name in free:
            del dependents[name]
    return order
