"""What a release will do: decided from what is wanted and what there is, without a socket or a clock.

The plan is a graph of frozen steps; `executor.py` runs it and decides nothing, `--dry-run` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from alva.checks.revisions import Revision, pending
from alva.release.drift import Cure, Found, ServiceAsItWas, updates
from alva.release.expansion import expanded, left_over
from alva.release.manifest import Manifest, Stack
from alva.release.stack_state import Action, ObservedStack, StackChange, compare


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the environment should be."""

    manifest: Manifest
    templates: Mapping[str, Mapping[str, Any]]
    """Stack name -> template."""
    digests: Mapping[str, str | None]
    """Service name -> digest; None where the image has yet to be built."""
    is_forced: bool = False
    """Migrate again even where the same image did already."""
    revisions: tuple[Revision, ...] | None = None
    """The history of the schema in the migration's new image; None where it is not known."""
    keeps_schema: bool = False
    """A rollback: the schema and the migration stay as they are, whatever image the services get."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What the environment is."""

    stacks: Mapping[str, ObservedStack | None]
    published: frozenset[str] = frozenset()
    """Services whose wanted digest is in its repository."""
    migrated_digest: str | None = None
    """The image whose migration succeeded last."""
    revision: str | None = None
    """The revision that the schema is at, where a release wrote it down."""
    released: Mapping[str, str] = field(default_factory=dict)
    """The digests of the last release that succeeded."""
    is_unrecorded: bool = False
    """Whether something else runs: a release was interrupted, and CloudFormation finished what it had begun."""
    secrets_ready: bool = False
    drift: Found = field(default_factory=Found)
    """What somebody changed outside CloudFormation."""
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    """How long steps took last time, by key."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing to do, once the steps named in `after` are done."""

    key: str
    title: str
    after: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PublishImage(Step):
    """Build the image if its digest is not known yet, and put it into its repository."""

    service: str


@dataclass(frozen=True, kw_only=True)
class ApplyStack(Step):
    """Bring a stack to its template."""

    stack: Stack
    action: Action
    template: Mapping[str, Any] | None = None
    """Instead of the wanted template: that one with what the running version still needs (`expansion.py`)."""


@dataclass(frozen=True, kw_only=True)
class ApplyServices(ApplyStack):
    """Bring the services stack to its template, and make sure that what was asked for is what runs."""


@dataclass(frozen=True, kw_only=True)
class PutBack(Step):
    """Put back what somebody changed outside CloudFormation, and no stack's update would."""

    cures: tuple[Cure, ...]


@dataclass(frozen=True, kw_only=True)
class CheckSecrets(Step):
    """Stop unless every secret is set."""


@dataclass(frozen=True, kw_only=True)
class Migrate(Step):
    """Run the migration with the new image."""

    revisions: tuple[Revision, ...] = ()
    """Those that the database does not have yet, as far as that is known."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps, in an order in which they could run one by one."""

    steps: tuple[Step, ...]
    contractions: tuple[ApplyStack, ...] = ()
    """Once the new version has verified: remove from the stacks around it what only the former version needed."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not self.steps and not self.contractions

    def stack_steps(self) -> Iterator[ApplyStack]:
        """The first step of each stack that changes."""
        seen: set[str] = set()
        for step in (*self.steps, *self.contractions):
            if isinstance(step, ApplyStack) and step.stack.name not in seen:
                seen.add(step.stack.name)
                yield step

    def lines(self) -> list[str]:
        """The plan for a person."""
        return [
            f"{step.title}" + (f" ({'; '.join(step.reasons)})" if step.reasons else "")
            for step in (*self.steps, *self.contractions)
        ]

    def as_json(self) -> list[dict[str, object]]:
        """The plan for a machine."""
        return [
            {
                "step": step.key,
                "kind": type(step).__name__,
                "title": step.title,
                "after": list(step.after),
                "reasons": list(step.reasons),
            }
            for step in (*self.steps, *self.contractions)
        ]


def make_plan(wanted: Wanted, observed: Observed) -> Plan:
    """Decide the steps that bring the environment to what is wanted."""
    manifest = wanted.manifest
    parameters = stack_parameters(wanted)
    first = _expanded_templates(wanted, observed)
    changes = {
        stack.name: compare(
            stack.name,
            first.get(stack.name, wanted.templates[stack.name]),
            parameters,
            manifest.tags,
            observed.stacks.get(stack.name),
        )
        for stack in manifest.stacks
    }
    changed = {name for name, change in changes.items() if change.action is not Action.NONE}
    steps: list[Step] = []

    registry = [_apply(stack, changes[stack.name], changed) for stack in manifest.stacks_of("registry")]
    steps += [step for step in registry if step is not None]

    registry_keys = tuple(step.key for step in steps)
    images = [
        PublishImage(
            key=f"image:{service.name}",
            title=f"image {service.name}",
            after=registry_keys,
            reasons=((wanted.digests[service.name] or "to be built").removeprefix("sha256:")[:12],),
            service=service.name,
        )
        for service in manifest.services
        if service.name in wanted.digests
        and (wanted.digests[service.name] is None or service.name not in observed.published)
    ]
    steps += images
    image_keys = {step.service: step.key for step in images}

    cures = _cures(wanted, observed)
    if cures:
        steps.append(
            PutBack(
                key="drift",
                title="put back what was changed outside CloudFormation",
                reasons=tuple(f"{d.subject}: {d.kind.value}" for d in observed.drift.drifts if d.cure in cures),
                cures=cures,
            )
        )

    data = []
    for stack in manifest.stacks_of("data"):
        # A task definition names its image by digest: it cannot be written before the digest is known.
        waits_for = (
            (image_keys[manifest.migration.service],)
            if stack.name == manifest.migration.stack and manifest.migration.service in image_keys
            else ()
        )
        if (step := _apply(stack, changes[stack.name], changed, waits_for)) is not None:
            data.append(step)
    steps += data

    services = [
        step for stack in manifest.stacks_of("services") if (step := _apply_services(stack, changes, steps)) is not None
    ]
    migration = _migration(wanted, observed, changes, steps)
    if services or migration is not None or not observed.secrets_ready:
        secrets = CheckSecrets(key="secrets", title="secrets are set", after=_keys(data))
        steps.append(secrets)
        services = [_after(step, secrets.key) for step in services]
        if migration is not None:
            migration = _after(migration, secrets.key)
    if migration is not None:
        steps.append(migration)
        services = [_after(step, migration.key) for step in services]
    steps += services

    before = _keys(steps)
    for stack in manifest.stacks_of("after"):
        if (step := _apply(stack, changes[stack.name], changed, before)) is not None:
            steps.append(step)
    steps = [
        replace(step, template=first[step.stack.name])
        if isinstance(step, ApplyStack) and step.stack.name in first
        else step
        for step in steps
    ]
    return Plan(steps=tuple(steps), contractions=tuple(_contractions(wanted, observed, first)))


def _cures(wanted: Wanted, observed: Observed) -> tuple[Cure, ...]:
    """What puts back the drift that no update of this release does, each once."""
    updated: set[str] = set()
    for stack in wanted.manifest.stacks_of("services"):
        before = observed.stacks.get(stack.name)
        running = running_digests(wanted.manifest, before)
        updated |= {
            service.service
            for service in wanted.manifest.services
            if wanted.digests.get(service.name, "") != running.get(service.name, "")
            or (before is not None and updates(service, before.template, wanted.templates[stack.name]))
        }
    cures = dict.fromkeys(each.cure for each in observed.drift.drifts if each.cure is not None)
    return tuple(c for c in cures if not (isinstance(c, ServiceAsItWas) and c.service in updated))


def _expanded_templates(wanted: Wanted, observed: Observed) -> dict[str, dict[str, Any]]:
    """Stack name -> what a stack around the running services gets first, where that is not its new template."""
    manifest = wanted.manifest
    if not any((services := observed.stacks.get(s.name)) and services.was_made for s in manifest.stacks_of("services")):
        return {}
    found = {}
    for stack in (*manifest.stacks_of("registry"), *manifest.stacks_of("data")):
        before = observed.stacks.get(stack.name)
        if before is not None and before.was_made:
            first = expanded(wanted.templates[stack.name], before.template)
            if first != wanted.templates[stack.name]:
                found[stack.name] = first
    return found


def _contractions(wanted: Wanted, observed: Observed, first: Mapping[str, Mapping[str, Any]]) -> Iterator[ApplyStack]:
    """The steps that bring the expanded stacks to their templates: an importing stack before the exporting one."""
    stacks = [stack for stack in reversed(wanted.manifest.stacks) if stack.name in first]
    for stack in stacks:
        gone = left_over(wanted.templates[stack.name], observed.stacks[stack.name].template)  # type: ignore[union-attr]
        yield ApplyStack(
            key=f"contract:{stack.name}",
            title=f"remove from stack {stack.name} what only the former version needs",
            after=tuple(f"contract:{other.name}" for other in stacks if stack.name in other.depends_on),
            reasons=gone,
            stack=stack,
            action=Action.UPDATE,
        )


def image_parameters(manifest: Manifest, digests: Mapping[str, str | None]) -> dict[str, str | None]:
    """Image parameter -> digest, or None where it is not known yet."""
    known = {name: digest for name, digest in digests.items() if digest is not None}
    values: dict[str, str | None] = dict(manifest.image_parameters(known))
    for name in set(digests) - set(known):
        values[manifest.service(name).image_parameter] = None
        if name == manifest.migration.service:
            values[manifest.migration.image_parameter] = None
    return values


def stack_parameters(wanted: Wanted) -> dict[str, str | None]:
    """The parameters that the release gives to its stacks; None where a value is not known yet."""
    values = image_parameters(wanted.manifest, wanted.digests)
    if wanted.keeps_schema:
        values.pop(wanted.manifest.migration.image_parameter, None)
    return values


def running_digests(manifest: Manifest, services_stack: ObservedStack | None) -> dict[str, str]:
    """Service name -> digest that the services stack last succeeded with."""
    if services_stack is None:
        return {}
    return {
        service.name: services_stack.parameters[service.image_parameter]
        for service in manifest.services
        if services_stack.parameters.get(service.image_parameter)
    }


def _keys(steps: list[Step] | list[ApplyStack]) -> tuple[str, ...]:
    return tuple(step.key for step in steps)


def _title(stack: Stack, action: Action) -> str:
    return f"{action.value} stack {stack.name}"


def _apply(stack: Stack, change: StackChange, changed: set[str], waits_for: tuple[str, ...] = ()) -> ApplyStack | None:
    if change.action is Action.NONE:
        return None
    after = dict.fromkeys((*(f"stack:{name}" for name in stack.depends_on if name in changed), *waits_for))
    return ApplyStack(
        key=f"stack:{stack.name}",
        title=_title(stack, change.action),
        after=tuple(after),
        reasons=change.reasons,
        stack=stack,
        action=change.action,
    )


def _apply_services(stack: Stack, changes: Mapping[str, StackChange], before: list[Step]) -> ApplyServices | None:
    change = changes[stack.name]
    if change.action is Action.NONE:
        return None
    return ApplyServices(
        key=f"stack:{stack.name}",
        title=_title(stack, change.action),
        after=_keys(before),
        reasons=change.reasons,
        stack=stack,
        action=change.action,
    )


def _migration(
    wanted: Wanted, observed: Observed, changes: Mapping[str, StackChange], before: list[Step]
) -> Migrate | None:
    manifest = wanted.manifest
    if manifest.migration.service not in wanted.digests or wanted.keeps_schema:
        return None
    digest = wanted.digests[manifest.migration.service]
    database = changes.get(f"{manifest.prefix}-database")
    if wanted.is_forced:
        reason = "asked for"
    elif database is not None and database.action in (Action.CREATE, Action.RECREATE):
        reason = "the database is new"
    elif digest is None or digest != observed.migrated_digest:
        reason = "its image changed" if observed.migrated_digest else "it never ran"
    else:
        return None
    # A database that was never written down is new, or older than this record: then nothing is known to be pending.
    is_known = observed.revision is not None or reason in ("the database is new", "it never ran")
    revisions = pending(wanted.revisions, observed.revision) if wanted.revisions is not None and is_known else ()
    return Migrate(
        key="migration",
        title="migration",
        after=_keys(before),
        reasons=(reason, *(f"{revision.revision} {revision.title}" for revision in revisions)),
        revisions=revisions,
    )


def _after(step: Any, key: str) -> Any:
    """The step, once `key` is done as well."""
    return replace(step, after=(*step.after, key))
