"""Plans a release from the wanted and the observed environment, without network calls or a clock.

The plan is a graph of frozen steps; `executor.py` runs it and makes no decisions, `--dry-run` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from alva.checks.revisions import Revision, pending
from alva.release.drift import Found, Repair, RestoreService, updates
from alva.release.expansion import expanded, left_over
from alva.release.manifest import Manifest, Stack
from alva.release.stack_state import Action, ObservedStack, StackChange, compare, running_digests


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The wanted state of the environment."""

    manifest: Manifest
    templates: Mapping[str, Mapping[str, Any]]
    """Stack name -> template."""
    digests: Mapping[str, str | None]
    """Service name -> digest; None if the image is not built yet."""
    is_forced: bool = False
    """Run the migration even if this image has migrated already."""
    revisions: tuple[Revision, ...] | None = None
    """The revisions in the migration's new image; None if they are not known."""
    keeps_schema: bool = False
    """For a rollback: the schema and the migration stay as they are."""


@dataclass(frozen=True, kw_only=True)
class Observed:
    """The observed state of the environment."""

    stacks: Mapping[str, ObservedStack | None]
    published: frozenset[str] = frozenset()
    """Services whose wanted digest is in its repository."""
    migrated_digest: str | None = None
    """The image whose migration succeeded last."""
    revision: str | None = None
    """The schema's revision, if a release recorded it."""
    released: Mapping[str, str] = field(default_factory=dict)
    """The digests of the last release that succeeded."""
    is_unrecorded: bool = False
    """Whether other images run: a release was interrupted, and CloudFormation finished it."""
    secrets_ready: bool = False
    drift: Found = field(default_factory=Found)
    """Changes made outside CloudFormation."""
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    """The duration of each step in the last release, by key."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step, which waits for the steps in `after`."""

    key: str
    title: str
    after: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


AnyStep = TypeVar("AnyStep", bound=Step)


@dataclass(frozen=True, kw_only=True)
class PublishImage(Step):
    """Build the image if its digest is not known, and push it to its repository."""

    service: str


@dataclass(frozen=True, kw_only=True)
class ApplyStack(Step):
    """Bring a stack to its template."""

    stack: Stack
    action: Action
    template: Mapping[str, Any] | None = None
    """Replaces the wanted template: the wanted one plus what the running version needs (`expansion.py`)."""


@dataclass(frozen=True, kw_only=True)
class ApplyServices(ApplyStack):
    """Bring the services stack to its template, and check that the requested images run."""


@dataclass(frozen=True, kw_only=True)
class RevertDrift(Step):
    """Revert drift that no stack update reverts."""

    repairs: tuple[Repair, ...]


@dataclass(frozen=True, kw_only=True)
class CheckSecrets(Step):
    """Stop unless every secret is set."""


@dataclass(frozen=True, kw_only=True)
class Migrate(Step):
    """Run the migration with the new image."""

    revisions: tuple[Revision, ...] = ()
    """The pending revisions, as far as they are known."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The steps, in an order that is valid one by one."""

    steps: tuple[Step, ...]
    clean_up: tuple[ApplyStack, ...] = ()
    """Steps after the new version has verified: remove what only the former version needed."""

    @property
    def is_empty(self) -> bool:
        """Whether there are no steps."""
        return not self.steps and not self.clean_up

    def stack_steps(self) -> Iterator[ApplyStack]:
        """Yield the first step of each changed stack."""
        seen: set[str] = set()
        for step in (*self.steps, *self.clean_up):
            if isinstance(step, ApplyStack) and step.stack.name not in seen:
                seen.add(step.stack.name)
                yield step

    def lines(self) -> list[str]:
        """Return the lines to print."""
        return [
            f"{step.title}" + (f" ({'; '.join(step.reasons)})" if step.reasons else "")
            for step in (*self.steps, *self.clean_up)
        ]

    def as_json(self) -> list[dict[str, object]]:
        """Return the steps as dictionaries."""
        return [
            {
                "step": step.key,
                "kind": type(step).__name__,
                "title": step.title,
                "after": list(step.after),
                "reasons": list(step.reasons),
            }
            for step in (*self.steps, *self.clean_up)
        ]


def make_plan(wanted: Wanted, observed: Observed) -> Plan:
    """Plan the steps from the observed to the wanted state."""
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
            title=f"publish the image of {service.name}",
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

    repairs = _repairs(wanted, observed)
    if repairs:
        steps.append(
            RevertDrift(
                key="drift",
                title="revert changes made outside CloudFormation",
                reasons=tuple(f"{d.subject}: {d.kind.value}" for d in observed.drift.drifts if d.repair in repairs),
                repairs=repairs,
            )
        )

    data = []
    for stack in manifest.stacks_of("data"):
        # A task definition needs the digest of its image.
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
        secrets = CheckSecrets(key="secrets", title="check the secrets", after=_keys(data))
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
    return Plan(steps=tuple(steps), clean_up=tuple(_clean_up_steps(wanted, observed, first)))


def _repairs(wanted: Wanted, observed: Observed) -> tuple[Repair, ...]:
    """Return the repairs of drift that no update of this release reverts, each once."""
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
    repairs = dict.fromkeys(each.repair for each in observed.drift.drifts if each.repair is not None)
    return tuple(c for c in repairs if not (isinstance(c, RestoreService) and c.service in updated))


def _expanded_templates(wanted: Wanted, observed: Observed) -> dict[str, dict[str, Any]]:
    """Return stack name -> its first template, where that is not the wanted one."""
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


def _clean_up_steps(wanted: Wanted, observed: Observed, first: Mapping[str, Mapping[str, Any]]) -> Iterator[ApplyStack]:
    """Return the steps from the expanded to the wanted templates: an importing stack before the exporting one."""
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
    """Return image parameter -> digest, or None if it is not known yet."""
    known = {name: digest for name, digest in digests.items() if digest is not None}
    values: dict[str, str | None] = dict(manifest.image_parameters(known))
    for name in set(digests) - set(known):
        values[manifest.service(name).image_parameter] = None
        if name == manifest.migration.service:
            values[manifest.migration.image_parameter] = None
    return values


def stack_parameters(wanted: Wanted) -> dict[str, str | None]:
    """Return the stacks' parameters; None for a value that is not known yet."""
    values = image_parameters(wanted.manifest, wanted.digests)
    if wanted.keeps_schema:
        values.pop(wanted.manifest.migration.image_parameter, None)
    return values


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
    database = next((changes.get(each.name) for each in manifest.stacks if each.short_name == "database"), None)
    if wanted.is_forced:
        reason = "asked for"
    elif database is not None and database.action in (Action.CREATE, Action.RECREATE):
        reason = "the database is new"
    elif digest is None or digest != observed.migrated_digest:
        reason = "its image changed" if observed.migrated_digest else "it has never run"
    else:
        return None
    # Without a recorded revision, the pending ones are known only for a new database.
    is_known = observed.revision is not None or reason in ("the database is new", "it has never run")
    revisions = pending(wanted.revisions, observed.revision) if wanted.revisions is not None and is_known else ()
    return Migrate(
        key="migration",
        title="migrate the database",
        after=_keys(before),
        reasons=(reason, *(f"{revision.revision} {revision.title}" for revision in revisions)),
        revisions=revisions,
    )


def _after(step: AnyStep, key: str) -> AnyStep:
    """Return the step, waiting for `key` too."""
    return replace(step, after=(*step.after, key))
