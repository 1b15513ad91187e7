"""Settings that make an environment cheaper. `./alva cost` lists them with their effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lib.config.environments import Environment
from lib.config.settings import CACHE_NODE_TYPES, DATABASE_CLASSES, WorkingHours


@dataclass(frozen=True, kw_only=True)
class Saving:
    """One saving: its name, its drawback, and the environment with it."""

    name: str
    drawback: str
    environment: Environment


ALL = "all-of-them"


def savings(environment: Environment) -> list[Saving]:
    """Return the savings that the environment does not have yet, and last all of them together."""
    found: list[Saving] = []
    together = environment
    for name, drawback, settings in _candidates(environment):
        changed = environment.with_settings(**settings)
        if changed != environment:
            found.append(Saving(name=name, drawback=drawback, environment=changed))
            together = together.with_settings(**settings)
    if len(found) > 1:
        found.append(Saving(name=ALL, drawback="all of the above", environment=together))
    return found


def _candidates(environment: Environment) -> Iterator[tuple[str, str, dict[str, object]]]:
    yield "arm64", "images are built for ARM", {"tasks__arm64": True}
    yield "spot", "AWS may stop a task with two minutes' notice", {"tasks__spot": True}
    yield "no-container-insights", "fewer metrics per task", {"tasks__container_insights": False}
    if (graviton := environment.database.instance_class.replace(".t3.", ".t4g.")) in DATABASE_CLASSES:
        yield "graviton-database", "none known", {"database__instance_class": graviton}
    if (graviton := environment.cache.node_type.replace(".t3.", ".t4g.")) in CACHE_NODE_TYPES:
        yield "graviton-cache", "none known", {"cache__node_type": graviton}
    yield "nat-instance", "one small machine that can fail, and must be patched", {"network__nat": "instance"}
    if not environment.database.multi_az:
        yield "working-hours", "nothing runs at night and at weekends", {"working_hours": WorkingHours()}
