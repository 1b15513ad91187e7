"""What a release would change, as values: per stack, per service, the migration's revisions, and what asks first."""

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
    """What changes in one stack."""

    name: str
    action: Action
    resources: tuple[ResourceChange, ...]
    note: str = ""
    """Why the resources are what the templates say, where CloudFormation could not be asked."""

    def lines(self) -> Iterator[str]:
        """For a person."""
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
    """What changes in one service's tasks."""

    name: str
    digest_before: str | None
    digest: str | None
    """None: to be built."""
    changes: tuple[str, ...]
    """Environment, secrets and size, a line each."""

    def lines(self) -> Iterator[str]:
        """For a person."""
        before, after = ((d or "nothing").removeprefix("sha256:")[:12] for d in (self.digest_before, self.digest))
        after = "to be built" if self.digest is None else after
        yield f"service {self.name}" + (f": {before} -> {after}" if before != after else f": {after}")
        yield from (f"  {change}" for change in self.changes)


@dataclass(frozen=True, kw_only=True)
class Diff:
    """Everything that a release would change."""

    stacks: tuple[StackDiff, ...] = ()
    services: tuple[ServiceDiff, ...] = ()
    revisions: tuple[Revision, ...] = ()
    risks: tuple[Risk, ...] = ()
    drift: Found = field(default_factory=Found)

    def drift_lines(self) -> list[str]:
        """What somebody changed outside CloudFormation, and which stacks could not be compared."""
        return [
            *(f"drift: {each}" for each in self.drift.drifts),
            *(f"drift is not known of {each}" for each in self.drift.unseen),
        ]

    def lines(self) -> list[str]:
        """For a person: what asks first, then all of it."""
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
        """The same as values."""
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
    """What CloudFormation says an update of one stack would change; None with the reason when it cannot tell."""

    resources: tuple[ResourceChange, ...] | None
    note: str = ""


def make_diff(wanted: Wanted, observed: Observed, plan: Plan, previews: Mapping[str, Preview]) -> Diff:
    """Join the plan, the templates and what CloudFormation previewed."""
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
            # What a first creation brings is all new: there is nothing that it widens.
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
    if observed.revision is not None:  # in an empty database nothing is taken away from anybody
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
    """What two templates say differently: for stacks that are new, and where there is no change set to ask.

    Whether a property's change replaces the resource is not in a template, so that is said to be possible.
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
    """Services that others call by name and that get another port.

    A name in Cloud Map leads to old and new tasks, and for a while a caller knows the port of one of them only.
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
    """What a service's tasks are given, flat: `api: environment PORT` -> `3001`."""
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
    """The question that a person answers."""
    kinds = " and ".join(dict.fromkeys(risk.kind.value for risk in found))
    return f"{len(found)} changes of {manifest.environment} stand out ({kinds}). Go on?"
