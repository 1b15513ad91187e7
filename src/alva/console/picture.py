"""Reads the parts of an environment and the allowed connections between them from templates, for `drawing`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from alva.checks.assembly import Assembly, Reference
from alva.checks.reachability import CACHE, DATABASE, INTERNET, LOAD_BALANCER, Matrix, reachability, read_nodes
from alva.checks.security_groups import Rule, SecurityGroup
from alva.checks.services import deployed_services

TITLES = {INTERNET: "Internet", LOAD_BALANCER: "Load balancer", DATABASE: "PostgreSQL", CACHE: "Redis"}


@dataclass(frozen=True, kw_only=True)
class Group:
    """A security group and its rules, as text."""

    name: str
    rules: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Container:
    """One container of a service, with the names of its variables and secrets but never their values."""

    name: str
    environment: tuple[str, ...]
    secrets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One box of the picture."""

    name: str
    kind: str
    """`internet`, `alb`, `service`, `database` or `cache`."""
    title: str
    note: str = ""
    """The line below the title: the paths of a service, the class of a database."""
    ports: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    containers: tuple[Container, ...] = ()
    size: str = ""


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """`source` can reach `target` on these TCP ports."""

    source: str
    target: str
    ports: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The architecture of one environment."""

    name: str
    parts: tuple[Part, ...]
    arrows: tuple[Arrow, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The differences between two pictures: names of parts, and arrows by (source, target)."""

    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    added_arrows: frozenset[tuple[str, str]] = frozenset()
    removed_arrows: frozenset[tuple[str, str]] = frozenset()
    lines: tuple[str, ...] = field(default=())
    """Each difference, as text."""

    @property
    def is_empty(self) -> bool:
        """Whether the pictures are equal."""
        return not self.lines


def read_picture(assembly: Assembly) -> Picture:
    """Read the parts and arrows of an environment from its templates.

    Raises AlvaError where a template contains something that `alva.checks` cannot resolve.
    """
    matrix = reachability(assembly)
    services = {each.name: each for each in deployed_services(assembly)}
    listens = _ports_by_target(matrix)
    parts: list[Part] = []
    groups = {node.name: _groups(assembly, node.groups) for node in read_nodes(assembly)}
    for name in (INTERNET, *groups):
        if name not in services:
            parts.append(
                Part(
                    name=name,
                    kind=name,
                    title=TITLES.get(name, name),
                    note=_note(assembly, name),
                    ports=listens.get(name, ()) if name != INTERNET else (),
                    groups=groups.get(name, ()),
                )
            )
            continue
        service = services[name]
        task = service.task_definition.properties
        parts.append(
            Part(
                name=name,
                kind="service",
                title=name,
                note=" ".join(map(str, service.manifest.get("paths", ()))),
                ports=tuple(str(port) for container in service.containers for port in container.ports),
                groups=groups[name],
                containers=tuple(
                    Container(
                        name=container.name,
                        environment=tuple(sorted(container.environment)),
                        secrets=tuple(sorted(container.secrets)),
                    )
                    for container in service.containers
                ),
                size=f"{task.get('Cpu', '?')} CPU units, {task.get('Memory', '?')} MiB",
            )
        )
    arrows = tuple(Arrow(source=source, target=target, ports=ports) for (source, target), ports in matrix.items())
    return Picture(name=str(assembly.manifest["environment"]), parts=tuple(parts), arrows=arrows)


def compare(before: Picture, after: Picture) -> Comparison:
    """Return what `after` adds to `before`, removes from it and changes in it."""
    old, new = ({part.name: part for part in picture.parts} for picture in (before, after))
    old_arrows, new_arrows = ({(a.source, a.target): a.ports for a in p.arrows} for p in (before, after))
    changed = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    added_arrows = {pair for pair in new_arrows if new_arrows[pair] != old_arrows.get(pair)}
    removed_arrows = old_arrows.keys() - new_arrows.keys()
    lines = [f"+ {name}" for name in new if name not in old] + [f"- {name}" for name in old if name not in new]
    for name in sorted(changed):
        lines += _part_changes(old[name], new[name])
    for source, target in sorted(added_arrows):
        lines.append(f"+ {source} reaches {target} on {', '.join(new_arrows[source, target])}")
    for source, target in sorted(removed_arrows):
        lines.append(f"- {source} reaches {target} on {', '.join(old_arrows[source, target])}")
    return Comparison(
        added=frozenset(new.keys() - old.keys()),
        removed=frozenset(old.keys() - new.keys()),
        changed=frozenset(changed),
        added_arrows=frozenset(added_arrows),
        removed_arrows=frozenset(removed_arrows),
        lines=tuple(lines),
    )


def _part_changes(old: Part, new: Part) -> Iterator[str]:
    for what in ("title", "note", "size"):
        if getattr(old, what) != getattr(new, what):
            yield f"~ {new.name}: {getattr(old, what) or 'nothing'} -> {getattr(new, what) or 'nothing'}"
    before, after = set(_facts(old)), set(_facts(new))
    yield from (f"+ {new.name}: {fact}" for fact in sorted(after - before))
    yield from (f"- {new.name}: {fact}" for fact in sorted(before - after))


def _facts(part: Part) -> Iterator[str]:
    for port in part.ports:
        yield f"port {port}"
    for group in part.groups:
        yield from (f"{group.name}: {rule}" for rule in group.rules)
    for container in part.containers:
        yield from (f"{container.name} has the variable {name}" for name in container.environment)
        yield from (f"{container.name} has the secret {name}" for name in container.secrets)


def _ports_by_target(matrix: Matrix) -> dict[str, tuple[str, ...]]:
    ports: dict[str, set[str]] = {}
    for (_, target), found in matrix.items():
        ports.setdefault(target, set()).update(found)
    return {target: tuple(sorted(found)) for target, found in ports.items()}


def _note(assembly: Assembly, name: str) -> str:
    kinds = {
        DATABASE: ("RDS::DBInstance", "DBInstanceClass"),
        CACHE: ("ElastiCache::ReplicationGroup", "CacheNodeType"),
        LOAD_BALANCER: ("ElasticLoadBalancingV2::LoadBalancer", "Scheme"),
    }
    if name not in kinds:
        return ""
    resource_type, key = kinds[name]
    return next((str(each.properties.get(key, "")) for each in assembly.of_type(resource_type)), "")


def _groups(assembly: Assembly, groups: Iterable[SecurityGroup]) -> tuple[Group, ...]:
    return tuple(
        Group(
            name=_group_name(assembly, group.resource.reference),
            rules=(
                *(f"in from {_peer(assembly, rule)}" for rule in group.ingress),
                *(f"out to {_peer(assembly, rule)}" for rule in group.egress),
            ),
        )
        for group in groups
    )


def _group_name(assembly: Assembly, reference: Reference) -> str:
    resource = assembly.resources.get(reference)
    name = resource.properties.get("GroupName") if resource is not None else None
    return name if isinstance(name, str) else reference.logical_id


def _peer(assembly: Assembly, rule: Rule) -> str:
    ports = f"port {rule.first}" if rule.first == rule.last else f"ports {rule.first} to {rule.last}"
    if rule.group is not None:
        return f"{_group_name(assembly, Reference(rule.group.stack, rule.group.logical_id))}, {ports}"
    return f"{rule.network}, {ports}"
