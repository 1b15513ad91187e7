"""The changes of a release by stack and by service, and the risks that need approval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from alva.aws import Aws
from alva.checks.revisions import Revision
from alva.errors import PreflightRefused
from alva.release.approval import preview_changes, require_approval
from alva.release.change_sets import ResourceChange
from alva.release.diff import Diff, Preview, changed_resources, make_diff
from alva.release.manifest import Manifest, Stack
from alva.release.plan import ApplyStack, Migrate, Observed, Plan, Wanted
from alva.release.risks import Kind, Risk
from alva.release.stack_state import Action, ObservedStack
from alva.release.stacks import Stacks


def ignore(_line: str) -> None:
    return None


def services_template(environment: dict[str, str], cpu: str = "256") -> dict[str, Any]:
    container = {"Name": "web", "Environment": [{"Name": k, "Value": v} for k, v in environment.items()]}
    return {
        "Parameters": {"WebImageDigest": {"Type": "String"}},
        "Resources": {
            "Task": {
                "Type": "AWS::ECS::TaskDefinition",
                "Properties": {"Cpu": cpu, "ContainerDefinitions": [container]},
            },
            "Service": {
                "Type": "AWS::ECS::Service",
                "Properties": {"ServiceName": "alva-web", "DesiredCount": 1, "TaskDefinition": {"Ref": "Task"}},
            },
        },
    }


def step(manifest: Manifest, name: str, action: Action = Action.UPDATE) -> ApplyStack:
    stack = next((s for s in manifest.stacks if s.name == name), None) or Stack(
        name=name, short_name=name, template_file=Path("unused"), depends_on=(), phase="data"
    )
    return ApplyStack(key=f"stack:{name}", title=name, stack=stack, action=action)


def test_service_whose_environment_and_size_change_is_shown_with_both(manifest: Manifest) -> None:
    name = f"{manifest.prefix}-services"
    wanted = Wanted(
        manifest=manifest,
        templates={name: services_template({"PORT": "3000", "NEW": "1"}, cpu="512")},
        digests={"web": "sha256:bbb"},
    )
    old = services_template({"PORT": "3001", "OLD": "x"})
    observed = Observed(
        stacks={
            name: ObservedStack(
                name=name, status="UPDATE_COMPLETE", template=old, parameters={"WebImageDigest": "sha256:aaa"}
            )
        }
    )
    diff = make_diff(wanted, observed, Plan(steps=(step(manifest, name),)), {name: Preview(resources=())})
    (web,) = diff.services
    assert (web.digest_before, web.digest) == ("sha256:aaa", "sha256:bbb")
    assert web.changes == (
        "~ cpu: 256 -> 512",
        "+ web: environment NEW = 1",
        "- web: environment OLD",
        "~ web: environment PORT: 3001 -> 3000",
    )


def test_contraction_needs_approval_unless_the_database_is_new(manifest: Manifest) -> None:
    revision = Revision(revision="3", down_revision="2", title="tidy", contractions=("drops column a.b",))
    plan = Plan(steps=(Migrate(key="migration", title="migrate the database", revisions=(revision,)),))
    wanted = Wanted(manifest=manifest, templates={}, digests={})
    with_data = make_diff(wanted, Observed(stacks={}, revision="2"), plan, {})
    assert [risk.kind for risk in with_data.risks] == [Kind.CONTRACTION]
    assert "drops column a.b" in with_data.risks[0].message
    assert make_diff(wanted, Observed(stacks={}), plan, {}).risks == ()


def test_preview_reads_the_changes_of_an_update_and_deletes_its_change_set(
    aws: Aws, manifest: Manifest, name: str
) -> None:
    def template(**parameters: str) -> dict[str, Any]:
        return {
            "Resources": {
                key: {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Name": n, "Value": "x"}}
                for key, n in parameters.items()
            }
        }

    before = template(Kept=f"/{name}/kept", Moved=f"/{name}/old", Gone=f"/{name}/gone")
    stacks = Stacks(aws)
    stacks.apply(name, before, {}, manifest.tags, ignore)
    after = template(Kept=f"/{name}/kept", Moved=f"/{name}/new", Added=f"/{name}/added")
    wanted = Wanted(manifest=manifest, templates={name: after}, digests={})
    observed = Observed(stacks={name: stacks.observe(name)})
    change_sets = aws.cloudformation.list_change_sets(StackName=name)["Summaries"]
    diff = preview_changes(aws, wanted, observed, Plan(steps=(step(manifest, name),)))
    (stack,) = diff.stacks
    changes = {change.logical_id: (change.action, change.replacement) for change in stack.resources}
    assert changes == {"Moved": ("Modify", "True"), "Gone": ("Remove", ""), "Added": ("Add", "")}
    assert stack.note == ""
    assert aws.cloudformation.list_change_sets(StackName=name)["Summaries"] == change_sets
    assert stacks.observe(name) == observed.stacks[name]


def test_without_a_change_set_the_templates_are_compared() -> None:
    def database(name: str) -> dict[str, Any]:
        return {"Resources": {"D": {"Type": "AWS::RDS::DBInstance", "Properties": {"DBName": name}}}}

    (change,) = changed_resources(database("a"), database("b"))
    assert change == ResourceChange(
        logical_id="D",
        type="AWS::RDS::DBInstance",
        action="Modify",
        replacement="Conditional",
        scope=("Properties",),
        properties=("DBName",),
    )


RISK = Risk(kind=Kind.DATA, subject="database/Instance", message="is replaced")


def test_risk_is_refused_without_a_terminal_for_approval(manifest: Manifest) -> None:
    with pytest.raises(PreflightRefused) as caught:
        require_approval(Diff(risks=(RISK,)), manifest, frozenset({Kind.IAM}), None)
    assert "database/Instance: is replaced" in str(caught.value)
    assert "--allow data" in str(caught.value)


def test_allowed_risk_needs_no_approval_and_an_approved_one_passes(manifest: Manifest) -> None:
    asked: list[str] = []

    def approve(risks: Sequence[Risk], question: str) -> bool:
        asked.append(question)
        return bool(risks)

    require_approval(Diff(risks=(RISK,)), manifest, frozenset({Kind.DATA}), approve)
    assert asked == []
    require_approval(Diff(risks=(RISK,)), manifest, frozenset(), approve)
    assert asked == ["1 risky change in test (data). Continue?"]
