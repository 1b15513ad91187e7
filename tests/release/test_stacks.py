"""Stacks, through MiniStack's CloudFormation API."""

from __future__ import annotations

from typing import Any

import pytest

from alva.aws import Aws
from alva.errors import StackFailed
from alva.release.stack_state import Action, ObservedStack, compare
from alva.release.stacks import Stacks, first_failure

TAGS = {"Project": "alva"}


def template(name: str, *, value: str = "one", extra: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "Parameters": {"Suffix": {"Type": "String", "Default": "none"}},
        "Resources": {
            "Setting": {
                "Type": "AWS::SSM::Parameter",
                "Properties": {
                    "Type": "String",
                    "Name": f"/{name}/setting",
                    "Value": {"Fn::Sub": f"{value}-${{Suffix}}"},
                },
            },
            **(extra or {}),
        },
        "Outputs": {"Name": {"Value": {"Ref": "Setting"}}},
    }


def clash() -> dict[str, Any]:
    """A resource that cannot be created: Parameter Store refuses names that begin with "aws"."""
    return {"Clash": {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Name": "aws-no", "Value": "x"}}}


def ignore(_line: str) -> None:
    return None


def value_of(aws: Aws, name: str) -> str:
    return aws.ssm.get_parameter(Name=f"/{name}/setting")["Parameter"]["Value"]


def test_first_apply_creates_and_second_changes_nothing(aws: Aws, name: str) -> None:
    stacks = Stacks(aws)
    assert stacks.apply(name, template(name), {"Suffix": "a"}, TAGS, ignore) is True
    assert value_of(aws, name) == "one-a"
    before = aws.cloudformation.describe_stack_events(StackName=name)["StackEvents"]

    assert stacks.apply(name, template(name), {"Suffix": "a"}, TAGS, ignore) is False
    assert aws.cloudformation.describe_stack_events(StackName=name)["StackEvents"] == before


def test_changed_template_and_changed_parameter_update(aws: Aws, name: str) -> None:
    stacks = Stacks(aws)
    stacks.apply(name, template(name), {"Suffix": "a"}, TAGS, ignore)
    assert stacks.apply(name, template(name, value="two"), {"Suffix": "a"}, TAGS, ignore) is True
    assert value_of(aws, name) == "two-a"
    assert stacks.apply(name, template(name, value="two"), {"Suffix": "b"}, TAGS, ignore) is True
    assert value_of(aws, name) == "two-b"


def test_omitted_parameter_keeps_its_value(aws: Aws, name: str) -> None:
    stacks = Stacks(aws)
    stacks.apply(name, template(name), {"Suffix": "kept"}, TAGS, ignore)
    stacks.apply(name, template(name, value="two"), {}, TAGS, ignore)
    assert value_of(aws, name) == "two-kept"


def test_observed_stack_has_the_values_that_compare_needs(aws: Aws, name: str) -> None:
    stacks = Stacks(aws)
    assert stacks.observe(name) is None
    stacks.apply(name, template(name), {"Suffix": "a"}, TAGS, ignore)
    observed = stacks.observe(name)
    assert observed is not None
    assert observed.template == template(name)
    assert observed.parameters == {"Suffix": "a"}
    assert observed.outputs == {"Name": f"/{name}/setting"}
    assert observed.tags == TAGS


def test_unknown_resource_type_is_named_and_leaves_no_stack_behind(aws: Aws, name: str) -> None:
    bad = template(name, extra={"Odd": {"Type": "AWS::Nothing::Here", "Properties": {}}})
    with pytest.raises(StackFailed) as caught:
        Stacks(aws).apply(name, bad, {}, TAGS, ignore)
    assert "AWS::Nothing::Here" in str(caught.value)


def test_failed_creation_is_reported_and_replaced_by_the_next_apply(aws: Aws, name: str) -> None:
    stacks = Stacks(aws)
    with pytest.raises(StackFailed) as caught:
        stacks.apply(name, template(name, extra=clash()), {}, TAGS, ignore)
    assert "Clash" in str(caught.value)
    observed = stacks.observe(name)
    assert observed is not None
    assert observed.status == "ROLLBACK_COMPLETE"

    assert stacks.apply(name, template(name), {"Suffix": "a"}, TAGS, ignore) is True
    assert value_of(aws, name) == "one-a"


def test_template_beyond_the_inline_limit_goes_through_the_staging_bucket(aws: Aws, name: str) -> None:
    aws.s3.create_bucket(Bucket="cdk-hnb659fds-assets-000000000000-us-east-1")
    big = template(name)
    big["Metadata"] = {"Padding": "x" * 52_000}
    assert Stacks(aws).apply(name, big, {"Suffix": "big"}, TAGS, ignore) is True
    assert value_of(aws, name) == "one-big"


def test_delete_waits_until_the_stack_is_deleted(aws: Aws, name: str) -> None:
    stacks = Stacks(aws)
    stacks.apply(name, template(name), {}, TAGS, ignore)
    stacks.delete(name, ignore)
    assert stacks.observe(name) is None


def observed(status: str = "CREATE_COMPLETE", **values: Any) -> ObservedStack:
    return ObservedStack(name="s", status=status, **values)


@pytest.mark.parametrize(
    ("status", "action"),
    [
        ("CREATE_COMPLETE", Action.NONE),
        ("UPDATE_COMPLETE", Action.NONE),
        ("UPDATE_ROLLBACK_COMPLETE", Action.NONE),
        ("REVIEW_IN_PROGRESS", Action.CREATE),
        ("ROLLBACK_COMPLETE", Action.RECREATE),
    ],
)
def test_status_decides_whether_a_stack_is_created_again(status: str, action: Action) -> None:
    assert compare("s", {}, {}, {}, observed(status)).action is action


def test_unknown_digest_counts_as_changed() -> None:
    declared = {"Parameters": {"ApiImageDigest": {"Type": "String"}}}
    have = observed(template=declared, parameters={"ApiImageDigest": "sha256:1"})
    assert compare("s", declared, {"ApiImageDigest": "sha256:1"}, {}, have).action is Action.NONE
    assert compare("s", declared, {"ApiImageDigest": None}, {}, have).action is Action.UPDATE


def test_undeclared_parameters_are_ignored() -> None:
    assert compare("s", {}, {"ApiImageDigest": "sha256:2"}, {}, observed()).action is Action.NONE


def test_first_failure_ignores_cancelled_resources() -> None:
    def event(resource: str, reason: str) -> Any:
        return {
            "StackId": "stack",
            "PhysicalResourceId": resource,
            "LogicalResourceId": resource,
            "ResourceType": "AWS::ECS::Service",
            "ResourceStatus": "CREATE_FAILED",
            "ResourceStatusReason": reason,
        }

    events = [event("Web", "Resource creation cancelled"), event("Api", "it broke"), event("stack", "[Api] failed")]
    assert first_failure(events) == ["Api (AWS::ECS::Service): it broke"]


def test_failed_update_leaves_the_stack_unchanged_and_reports_the_reason(aws: Aws, name: str) -> None:
    stacks = Stacks(aws)
    stacks.apply(name, template(name), {"Suffix": "a"}, TAGS, ignore)
    with pytest.raises(StackFailed) as caught:
        stacks.apply(name, template(name, value="two", extra=clash()), {"Suffix": "a"}, TAGS, ignore)
    assert "Clash" in str(caught.value)
    assert value_of(aws, name) == "one-a"
    back = stacks.observe(name)
    assert back is not None
    assert back.status == "UPDATE_ROLLBACK_COMPLETE"
    assert back.template == template(name)


def test_validation_names_an_unknown_resource_type_and_creates_nothing(aws: Aws, name: str) -> None:
    stacks = Stacks(aws)
    bad = template(name, extra={"Odd": {"Type": "AWS::Nothing::Here", "Properties": {}}})
    assert "AWS::Nothing::Here" in (stacks.validate(name, bad) or "")
    assert stacks.validate(name, template(name)) is None
    assert stacks.observe(name) is None
