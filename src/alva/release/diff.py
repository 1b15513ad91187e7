"""What a release would change: per stack, per service, the migration's revisions, and the risks."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from alva.checks.revisions import Revision
from alva.release import risks
from alva.release.change_sets import ResourceChange
from alva.release.drift import Found
from alva.release.manifest import Manifest, Service
from alva.release.plan import Migrate, Observed, Plan, Wanted
from alva.release.risks import Kind, Risk
from alva.release.stack_state import Action

SIZES = ("Cpu", "Memory")


@dataclass(frozen=True, kw_only=True)
class StackDiff:
    """The changes of one stack."""

    name: str
    action: Action
    resources: tuple[ResourceChange, ...]
    note: str = ""
    """Why the changes come from the templates, where CloudFormation has no change set."""

    def lines(self) -> Iterator[str]:
        """Return the lines to print."""
        yield f"{self.action.value} stack {self.name}" + (f" ({self.note})" if self.note else "")
        if self.action is not Action.UPDATE:
            yield f"  {len(self.resources)} resources"
            return
        for each in self.resources:
            sign = {"Add": "+", "Remove": "-", "Modify": "~", "Import": "<"}.get(each.action, "?")
            replaced = {"True": "  REPLACED", "Conditional": "  replaced perhaps"}.get(each.replacement, "")
            what = ", ".join(each.properties or each.scope)
            yield f"  {sign} {each.logical_id} ({each.type}){replaced}" + (f": {what}" if what else "")


@dataclass(frozen=True, kw_only=True)
class ServiceDiff:
    """The changes of one service's tasks."""

    name: str
    digest_before: str | None
    digest: str | None
    """None: not built yet."""
    changes: tuple[str, ...]
    """Changed environment variables, secrets and sizes, one line each."""

    def lines(self) -> Iterator[str]:
        """Return the lines to print."""
        before, after = ((d or "nothing").removeprefix("sha256:")[:12] for d in (self.digest_before, self.digest))
        after = "to be built" if self.digest is None else after
        yield f"service {self.name}" + (f": {before} -> {after}" if before != after else f": {after}")
        yield from (f"  {change}" for change in self.changes)


@dataclass(frozen=True, kw_only=True)
class Diff:
    """All changes of a release."""

    stacks: tuple[StackDiff, ...] = ()
    services: tuple[ServiceDiff, ...] = ()
    revisions: tuple[Revision, ...] = ()
    risks: tuple[Risk, ...] = ()
    drift: Found = field(default_factory=Found)

    def drift_lines(self) -> list[str]:
        """Return the drift, and the stacks whose drift is not known."""
        return [
            *(f"drift: {each}" for each in self.drift.drifts),
            *(f"drift is not known of {each}" for each in self.drift.unseen),
        ]

    def lines(self) -> list[str]:
        """Return the lines to print: the risks first."""
        lines = [*self.drift_lines(), *(f"! {risk}" for risk in self.risks)]
        for stack in self.stacks:
            lines += stack.lines()
        for service in self.services:
            lines += service.lines()
        for revision in self.revisions:
            lines.append(f"migration {revision.revision}: {revision.title}")
            lines += [f"  {each}" for each in (*revision.contractions, *revision.locks)]
        return lines

    def as_json(self) -> dict[str, object]:
        """Return the fields as a dictionary."""
        return {
            "drift": [each.as_json() for each in self.drift.drifts],
            "risks": [risk.as_json() for risk in self.risks],
            "stacks": [
                {
                    "stack": each.name,
                    "action": each.action.value,
                    "note": each.note,
                    "resources": [resource.as_json() for resource in each.resources],
                }
                for each in self.stacks
            ],
            "services": [
                {"service": s.name, "before": s.digest_before, "after": s.digest, "changes": list(s.changes)}
                for s in self.services
            ],
            "migrations": [
                {"revision": r.revision, "title": r.title, "contractions": list(r.contractions), "locks": list(r.locks)}
                for r in self.revisions
            ],
        }


@dataclass(frozen=True, kw_only=True)
class Preview:
    """CloudFormation's preview of one stack's update; None, with the reason, where there is none."""

    resources: tuple[ResourceChange, ...] | None
    note: str = ""


def make_diff(wanted: Wanted, observed: Observed, plan: Plan, previews: Mapping[str, Preview]) -> Diff:
    """Combine the plan, the templates and CloudFormation's previews."""
    stacks: list[StackDiff] = []
    found: list[Risk] = []
    for step in plan.stack_steps():
        name, new = step.stack.name, wanted.templates[step.stack.name]
        before = observed.stacks.get(name)
        old = before.template if before is not None and step.action is Action.UPDATE else {}
        preview = previews.get(name) or Preview(resources=None)
        resources = preview.resources if preview.resources is not None else tuple(changed_resources(old, new))
        stacks.append(StackDiff(name=name, action=step.action, resources=resources, note=preview.note))
        if step.action is Action.UPDATE:
            # A new stack widens no permission: all of it is new.
            found += risks.widened_permissions(name, old, new)
            found += risks.widened_network(name, old, new)
            found += risks.lost_data(name, old, resources)
            found += risks.interruptions(name, resources)
            found += _moved_calls(name, old, new, wanted.manifest)
    found += [
        Risk(
            kind=Kind.DRIFT,
            subject=each.subject,
            message=each.message + (f"; {each.next_step}" if each.next_step else ""),
        )
        for each in observed.drift.drifts
        if each.asks and not plan.is_empty
    ]
    revisions = tuple(r for step in plan.steps if isinstance(step, Migrate) for r in step.revisions)
    if observed.revision is not None:  # an empty database has nothing that a version could use
        found += [
            Risk(
                kind=Kind.CONTRACTION,
                subject=f"migration {r.revision}",
                message=f"{c}; the running version may stop working",
            )
            for r in revisions
            for c in r.contractions
        ]
        found += [
            Risk(kind=Kind.OUTAGE, subject=f"migration {r.revision}", message=each)
            for r in revisions
            for each in r.locks
        ]
    return Diff(
        stacks=tuple(stacks),
        services=tuple(_services(wanted, observed)),
        revisions=revisions,
        drift=observed.drift,
        risks=tuple(sorted(dict.fromkeys(found), key=lambda r: (list(Kind).index(r.kind), r.subject))),
    )


def changed_resources(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[ResourceChange]:
    """Compare two templates, for new stacks and where no change set exists.

    A template does not tell whether a changed property replaces the resource, so the change is marked as a possible
    replacement.
    """
    before, after = old.get("Resources", {}), new.get("Resources", {})
    for logical_id in sorted({*before, *after}):
        one, other = before.get(logical_id), after.get(logical_id)
        if one == other:
            continue
        if one is None or other is None:
            kind = str((other or one or {}).get("Type", ""))
            yield ResourceChange(logical_id=logical_id, type=kind, action="Add" if one is None else "Remove")
            continue
        properties, others = one.get("Properties", {}), other.get("Properties", {})
        names = tuple(sorted(k for k in {*properties, *others} if properties.get(k) != others.get(k)))
        yield ResourceChange(
            logical_id=logical_id,
            type=str(other.get("Type", "")),
            action="Modify",
            replacement="Conditional" if names and set(names) != {"Tags"} else "False",
            scope=("Properties",) if names else ("Metadata",),
            properties=names,
        )


def _services(wanted: Wanted, observed: Observed) -> Iterator[ServiceDiff]:
    manifest = wanted.manifest
    for stack in manifest.stacks_of("services"):
        before = observed.stacks.get(stack.name)
        old = before.template if before is not None else {}
        new = wanted.templates.get(stack.name, {})
        for service in manifest.services:
            had = (before.parameters.get(service.image_parameter) if before is not None else None) or None
            digest = wanted.digests.get(service.name)
            changes = tuple(_task_changes(_task_facts(old, service), _task_facts(new, service))) if old else ()
            if changes or digest != had:
                yield ServiceDiff(name=service.name, digest_before=had, digest=digest, changes=changes)


def _moved_calls(stack: str, old: Mapping[str, Any], new: Mapping[str, Any], manifest: Manifest) -> Iterator[Risk]:
    """Return the services whose port changes while other services call them by name.

    The Cloud Map name resolves to old and new tasks, and a caller knows only one of the two ports until it is replaced.
    """
    before = {service.name: _task_facts(old, service) for service in manifest.services}
    for service in manifest.services:
        was, port = before[service.name].get("port"), _task_facts(new, service).get("port")
        if was is None or port is None or was == port:
            continue
        url = f"//{service.name}.{manifest.namespace}:{was}"
        callers = [name for name, facts in before.items() if any(url in value for value in facts.values())]
        if callers:
            yield Risk(
                kind=Kind.OUTAGE,
                subject=f"{stack}/{service.name}",
                message=f"its port changes from {was} to {port}: "
                f"calls of {', '.join(callers)} to it fail at times until the tasks of all of them are replaced",
            )


def _task_facts(template: Mapping[str, Any], service: Service) -> dict[str, str]:
    """Return the settings of a service's tasks, flat: `api: environment PORT` -> `3001`."""
    resources = template.get("Resources", {})
    facts: dict[str, str] = {}
    for resource in resources.values():
        properties = resource.get("Properties", {})
        if resource.get("Type") != "AWS::ECS::Service" or properties.get("ServiceName") != service.service:
            continue
        facts["tasks"] = _say(properties.get("DesiredCount"))
        reference = properties.get("TaskDefinition", {})
        definition = resources.get(reference.get("Ref") if isinstance(reference, dict) else None, {})
        task = definition.get("Properties", {})
        facts |= {size.lower(): _say(task[size]) for size in SIZES if size in task}
        for balancer in properties.get("LoadBalancers", []):
            facts["port"] = _say(balancer.get("ContainerPort"))
        for container in task.get("ContainerDefinitions", []):
            name = container.get("Name")
            for pair in container.get("Environment", []):
                facts[f"{name}: environment {pair['Name']}"] = _say(pair.get("Value"))
            for pair in container.get("Secrets", []):
                facts[f"{name}: secret {pair['Name']}"] = _say(pair.get("ValueFrom"))
            for size in SIZES:
                if size in container:
                    facts[f"{name}: {size.lower()}"] = _say(container[size])
            if "Command" in container:
                facts[f"{name}: command"] = _say(container["Command"])
    return facts


def _task_changes(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    for key in sorted({*old, *new}):
        if old.get(key) == new.get(key):
            continue
        if key not in old:
            yield f"+ {key} = {new[key]}"
        elif key not in new:
            yield f"- {key}"
        else:
            yield f"~ {key}: {old[key]} -> {new[key]}"


def _say(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def in_words(found: Sequence[Risk], manifest: Manifest) -> str:
    """Return the question for a person."""
    kinds = " and ".join(dict.fromkeys(risk.kind.value for risk in found))
    return f"{len(found)} risky change{'' if len(found) == 1 else 's'} in {manifest.environment} ({kinds}). Continue?"
