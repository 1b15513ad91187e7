"""Plans: the changes decide the steps and their order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from alva.release.manifest import Manifest
from alva.release.plan import Migrate, Observed, Plan, Step, Wanted, make_plan
from alva.release.stack_state import ObservedStack

OLD = {"web": "sha256:web-1", "api": "sha256:api-1"}


def template(short: str) -> dict[str, Any]:
    parameters = {
        "services": ["WebImageDigest", "ApiImageDigest"],
        "ecs": ["MigrationsImageDigest"],
    }.get(short, [])
    return {"Parameters": {name: {"Type": "String"} for name in parameters}, "Resources": {short: {}}}


def short(manifest: Manifest, name: str) -> str:
    return name.removeprefix(f"{manifest.prefix}-")


def wanted(manifest: Manifest, digests: dict[str, str | None]) -> Wanted:
    return Wanted(
        manifest=manifest,
        templates={stack.name: template(short(manifest, stack.name)) for stack in manifest.stacks},
        digests=digests,
    )


def settled(manifest: Manifest) -> Observed:
    """The environment after a release of OLD."""
    parameters = {
        "services": {"WebImageDigest": "sha256:web-1", "ApiImageDigest": "sha256:api-1"},
        "ecs": {"MigrationsImageDigest": "sha256:api-1"},
    }
    return Observed(
        stacks={
            stack.name: ObservedStack(
                name=stack.name,
                status="UPDATE_COMPLETE",
                template=template(short(manifest, stack.name)),
                parameters=parameters.get(short(manifest, stack.name), {}),
                tags=manifest.tags,
            )
            for stack in manifest.stacks
        },
        published=frozenset(OLD),
        migrated_digest="sha256:api-1",
        secrets_ready=True,
    )


def keys(manifest: Manifest, plan: Plan) -> list[str]:
    return [step.key.replace(f"{manifest.prefix}-", "") for step in plan.steps]


def step(manifest: Manifest, plan: Plan, key: str) -> Step:
    return next(s for s in plan.steps if s.key.replace(f"{manifest.prefix}-", "") == key)


def everything_before(plan: Plan, found: Step) -> set[str]:
    """The steps that are always done when the step begins."""
    by_key = {s.key: s for s in plan.steps}
    before: set[str] = set()
    todo = list(found.after)
    while todo:
        key = todo.pop()
        if key not in before:
            before.add(key)
            todo += by_key[key].after
    return before


def test_nothing_changed_is_an_empty_plan(manifest: Manifest) -> None:
    assert make_plan(wanted(manifest, dict(OLD)), settled(manifest)).is_empty


def test_first_release_runs_every_step_in_order(manifest: Manifest) -> None:
    plan = make_plan(wanted(manifest, {"web": None, "api": None}), Observed(stacks={}))
    assert keys(manifest, plan) == [
        "stack:registry",
        "image:web",
        "image:api",
        "stack:network",
        "stack:secrets",
        "stack:database",
        "stack:alb",
        "stack:ecs",
        "secrets",
        "migration",
        "stack:services",
        "stack:monitoring",
    ]


def test_no_step_waits_for_a_later_one(manifest: Manifest) -> None:
    plan = make_plan(wanted(manifest, {"web": None, "api": None}), Observed(stacks={}))
    seen: set[str] = set()
    for found in plan.steps:
        assert seen.issuperset(found.after), found
        seen.add(found.key)


def test_services_wait_for_migration_and_migration_for_its_image_secrets_and_data(manifest: Manifest) -> None:
    plan = make_plan(wanted(manifest, {"web": None, "api": None}), Observed(stacks={}))
    migration, services = step(manifest, plan, "migration"), step(manifest, plan, "stack:services")
    data = {f"stack:{manifest.prefix}-{name}" for name in ("network", "secrets", "database", "alb", "ecs")}
    assert everything_before(plan, migration) >= data | {"image:api", "secrets"}
    assert everything_before(plan, services) >= {"migration", "image:web", "image:api"}


def test_images_are_built_beside_the_data_stacks(manifest: Manifest) -> None:
    plan = make_plan(wanted(manifest, {"web": None, "api": None}), Observed(stacks={}))
    assert everything_before(plan, step(manifest, plan, "image:api")) == {f"stack:{manifest.prefix}-registry"}
    assert everything_before(plan, step(manifest, plan, "stack:database")) == {
        f"stack:{manifest.prefix}-network",
        f"stack:{manifest.prefix}-secrets",
    }


def test_new_api_image_releases_the_api_with_its_migration_and_touches_no_other_stack(manifest: Manifest) -> None:
    observed = replace(settled(manifest), published=frozenset({"web"}))
    plan = make_plan(wanted(manifest, {**OLD, "api": "sha256:api-2"}), observed)
    assert keys(manifest, plan) == ["image:api", "stack:ecs", "secrets", "migration", "stack:services"]
    assert step(manifest, plan, "stack:services").reasons == ("ApiImageDigest changed",)


def test_new_web_image_needs_no_migration(manifest: Manifest) -> None:
    observed = replace(settled(manifest), published=frozenset({"api"}))
    plan = make_plan(wanted(manifest, {**OLD, "web": "sha256:web-2"}), observed)
    assert keys(manifest, plan) == ["image:web", "secrets", "stack:services"]


def test_new_database_is_migrated_although_the_image_already_was(manifest: Manifest) -> None:
    observed = settled(manifest)
    stacks = {name: stack for name, stack in observed.stacks.items() if not name.endswith("-database")}
    plan = make_plan(wanted(manifest, dict(OLD)), replace(observed, stacks=stacks))
    assert [s.reasons for s in plan.steps if isinstance(s, Migrate)] == [("the database is new",)]


def test_secrets_are_checked_even_when_nothing_else_changes(manifest: Manifest) -> None:
    plan = make_plan(wanted(manifest, dict(OLD)), replace(settled(manifest), secrets_ready=False))
    assert keys(manifest, plan) == ["secrets"]


@pytest.mark.parametrize("short_name", ["network", "database", "services", "monitoring"])
def test_changed_template_updates_that_stack_alone(manifest: Manifest, short_name: str) -> None:
    name = f"{manifest.prefix}-{short_name}"
    want = wanted(manifest, dict(OLD))
    want = replace(want, templates={**want.templates, name: {**want.templates[name], "Description": "new"}})
    plan = make_plan(want, settled(manifest))
    assert [k for k in keys(manifest, plan) if k != "secrets"] == [f"stack:{short_name}"]
