"""Change sets through the API: names, conditions, and described changes.

LocalStack's test suite recorded AWS's behaviour; docstrings name its tests as the source of a fact.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import RunningRegion

pytestmark = pytest.mark.region


def parameter(value: str, **attributes: Any) -> dict[str, Any]:
    return {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": value}, **attributes}


def conditional(switch: str) -> dict[str, Any]:
    return {
        "Parameters": {"On": {"Type": "String", "Default": switch}},
        "Conditions": {"IsOn": {"Fn::Equals": [{"Ref": "On"}, "yes"]}},
        "Resources": {"A": parameter("a"), "B": parameter("b", Condition="IsOn")},
    }


def create_change_set(region: RunningRegion, stack: str, name: str, template: dict[str, Any], **options: Any) -> Any:
    return region.client("cloudformation").create_change_set(
        StackName=stack, ChangeSetName=name, TemplateBody=json.dumps(template), **options
    )


def test_the_name_of_an_executed_change_set_is_free_again_and_means_the_newest_one(region: RunningRegion) -> None:
    client = region.client("cloudformation")
    create_change_set(region, "names", "same", {"Resources": {"A": parameter("1")}}, ChangeSetType="CREATE")
    client.execute_change_set(StackName="names", ChangeSetName="same")
    assert region.settled("names").status == "CREATE_COMPLETE"
    for value in ("2", "3"):
        latest = create_change_set(region, "names", "same", {"Resources": {"A": parameter(value)}})
        assert client.describe_change_set(StackName="names", ChangeSetName="same")["ChangeSetId"] == latest["Id"]
        client.execute_change_set(StackName="names", ChangeSetName="same")
        assert region.settled("names").status == "UPDATE_COMPLETE"
        assert client.describe_change_set(ChangeSetName=latest["Id"])["ExecutionStatus"] == "EXECUTE_COMPLETE"


def test_the_name_of_a_pending_change_set_is_in_use(region: RunningRegion) -> None:
    create_change_set(region, "taken", "same", {"Resources": {"A": parameter("1")}}, ChangeSetType="CREATE")
    with pytest.raises(ClientError, match="AlreadyExists"):
        create_change_set(region, "taken", "same", {"Resources": {"A": parameter("2")}}, ChangeSetType="CREATE")


@pytest.mark.parametrize(("before", "after", "action"), [("no", "yes", "Add"), ("yes", "no", "Remove")])
def test_a_condition_that_flips_is_a_change(region: RunningRegion, before: str, after: str, action: str) -> None:
    """test_change_set_conditions: test_condition_update_adds_resource, test_condition_update_removes_resource."""
    name = f"flip-to-{after}"
    region.create(name, conditional(before))
    create_change_set(region, name, "flip", conditional(before), Parameters=[
        {"ParameterKey": "On", "ParameterValue": after}
    ])  # fmt: skip
    client = region.client("cloudformation")
    said = client.describe_change_set(StackName=name, ChangeSetName="flip")
    assert said["Status"] == "CREATE_COMPLETE"
    changes = [change["ResourceChange"] for change in said["Changes"]]
    assert [(change["LogicalResourceId"], change["Action"]) for change in changes] == [("B", action)]
    client.execute_change_set(StackName=name, ChangeSetName="flip")
    assert region.settled(name).status == "UPDATE_COMPLETE"
    resources = client.list_stack_resources(StackName=name)["StackResourceSummaries"]
    assert sorted(each["LogicalResourceId"] for each in resources) == (["A", "B"] if action == "Add" else ["A"])


def test_the_metadata_that_the_cdk_adds_is_a_resource_type(region: RunningRegion) -> None:
    metadata = {"Type": "AWS::CDK::Metadata", "Properties": {"Analytics": "v2:deflate64:H4sIAAA"}}
    assert region.create("cdk-metadata", {"Resources": {"CDKMetadata": metadata}}).status == "CREATE_COMPLETE"


def topics(name: str, shown: Any = "first", **attributes: Any) -> dict[str, Any]:
    """A topic, and another one that refers to its attribute."""
    first = {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": name, "DisplayName": shown}, **attributes}
    second = {"Type": "AWS::SNS::Topic", "Properties": {"DisplayName": {"Fn::GetAtt": ["First", "DisplayName"]}}}
    return {"Resources": {"First": first, "Second": second}}


def described(region: RunningRegion, stack: str, *, values: bool) -> dict[str, dict[str, Any]]:
    answer = region.client("cloudformation").describe_change_set(
        StackName=stack, ChangeSetName="shown", IncludePropertyValues=values
    )
    changes = [change["ResourceChange"] for change in answer["Changes"]]
    return {change["LogicalResourceId"]: change for change in changes}


def test_values_are_shown_on_request(region: RunningRegion) -> None:
    """test_change_set_fn_get_attr: test_direct_attribute_value_change, test_immutable_property_update_...."""
    region.create("values", topics("values-old"))
    create_change_set(region, "values", "shown", topics("values-old", "second"))
    plain, valued = (described(region, "values", values=values) for values in (False, True))
    assert sorted(plain) == ["First", "Second"]
    assert "BeforeContext" not in plain["First"]
    assert plain["Second"]["Details"] == [
        {
            "Target": {"Attribute": "Properties", "Name": "DisplayName", "RequiresRecreation": "Never"},
            "Evaluation": "Dynamic",
            "ChangeSource": "ResourceAttribute",
            "CausingEntity": "First.DisplayName",
        }
    ]
    # With values, references to a resource that changes in place are left out.
    assert sorted(valued) == ["First"]
    assert json.loads(valued["First"]["BeforeContext"]) == {
        "Properties": {"TopicName": "values-old", "DisplayName": "first"}
    }
    assert json.loads(valued["First"]["AfterContext"])["Properties"]["DisplayName"] == "second"
    [detail] = valued["First"]["Details"]
    assert detail["Target"] == {
        "Attribute": "Properties", "Name": "DisplayName", "RequiresRecreation": "Never",
        "Path": "/Properties/DisplayName", "AttributeChangeType": "Modify", "BeforeValue": "first",
        "AfterValue": "second",
    }  # fmt: skip


def test_a_value_of_a_replacement_is_known_after_it_is_applied(region: RunningRegion) -> None:
    region.create("unknown-value", topics("unknown-old"))
    create_change_set(region, "unknown-value", "shown", topics("unknown-new"))
    valued = described(region, "unknown-value", values=True)
    assert valued["First"]["Replacement"] == "True"
    assert valued["First"]["PolicyAction"] == "ReplaceAndDelete"
    after = json.loads(valued["Second"]["AfterContext"])["Properties"]
    assert after == {"DisplayName": "{{changeSet:KNOWN_AFTER_APPLY}}"}
    assert [detail["ChangeSource"] for detail in valued["Second"]["Details"]] == [
        "DirectModification", "ResourceAttribute",
    ]  # fmt: skip


def test_a_hidden_parameter_is_hidden_in_a_change_sets_values(region: RunningRegion) -> None:
    template = {
        "Parameters": {"Secret": {"Type": "String", "NoEcho": True}},
        "Resources": {"A": parameter({"Fn::Sub": "is ${Secret}"})},  # type: ignore[arg-type]
    }
    given = [{"ParameterKey": "Secret", "ParameterValue": "unseen"}]
    create_change_set(region, "hidden", "shown", template, ChangeSetType="CREATE", Parameters=given)
    answer = region.client("cloudformation").describe_change_set(
        StackName="hidden", ChangeSetName="shown", IncludePropertyValues=True
    )
    assert "unseen" not in str(answer)
    assert "is ****" in str(answer)


def test_a_stack_under_review_is_kept_by_a_second_change_set_and_by_create_stack(region: RunningRegion) -> None:
    """test_changesets: test_multiple_create_changeset, test_create_while_in_review."""
    template = {"Resources": {"A": parameter("a")}}
    ids = {create_change_set(region, "review", name, template, ChangeSetType="CREATE")["StackId"] for name in "ab"}
    ids.add(region.create("review", template).id)
    assert len(ids) == 1
    answer = region.client("cloudformation").describe_change_set(StackName="review", ChangeSetName="a")
    assert answer["ExecutionStatus"] == "OBSOLETE"


def test_a_deleted_stack_is_found_only_by_its_id_also_when_its_name_is_used_again(region: RunningRegion) -> None:
    """test_changesets: test_name_conflicts; test_stacks: test_name_conflicts."""
    template = {"Resources": {"A": parameter("a")}}
    client = region.client("cloudformation")
    change_set = create_change_set(region, "again", "first", template, ChangeSetType="CREATE")
    client.execute_change_set(StackName="again", ChangeSetName="first")
    former = region.settled("again").id
    region.delete("again")
    for call in (client.describe_stacks, client.describe_stack_events, client.get_template):
        with pytest.raises(ClientError, match="does not exist"):
            call(StackName="again")
    current = region.create("again", template).id
    assert current != former
    deleted = client.describe_stacks(StackName=former)["Stacks"][0]
    assert deleted["StackStatus"] == "DELETE_COMPLETE"
    assert deleted["DeletionTime"]
    assert "EnableTerminationProtection" not in deleted
    assert client.describe_stack_events(StackName=former)["StackEvents"][0]["ResourceStatus"] == "DELETE_COMPLETE"
    assert client.describe_change_set(ChangeSetName=change_set["Id"])["ExecutionStatus"] == "EXECUTE_COMPLETE"


@pytest.mark.parametrize(
    ("call", "request_", "message"),
    [
        ("describe_change_set", {"StackName": "nowhere", "ChangeSetName": "x"}, "Stack [nowhere] does not exist"),
        ("get_template", {"StackName": "nowhere"}, "Stack with id nowhere does not exist"),
        (
            "list_stacks",
            {"StackStatusFilter": ["NOPE"]},
            "at 'stackStatusFilter.1.member' failed to satisfy constraint",
        ),
    ],
)
def test_missing_resource_is_a_validation_error(
    region: RunningRegion, call: str, request_: dict[str, Any], message: str
) -> None:
    with pytest.raises(ClientError) as refused:
        getattr(region.client("cloudformation"), call)(**request_)
    error = refused.value.response["Error"]
    assert error["Code"] == "ValidationError"
    assert error["Message"] == message if "satisfy" not in message else message in error["Message"]


def test_descriptions_have_the_members_that_aws_shows_and_no_empty_ones(region: RunningRegion) -> None:
    """The members of each shape, counted over all snapshots: `tests/region/aws_facts/cloudformation.json`."""
    client = region.client("cloudformation")
    template = {"Description": "said", "Resources": {"A": parameter("a")}, "Outputs": {"O": {"Value": "o"}}}
    create_change_set(region, "shapes", "made", template, ChangeSetType="CREATE")
    client.execute_change_set(StackName="shapes", ChangeSetName="made")
    region.settled("shapes")
    change_set = client.describe_change_set(StackName="shapes", ChangeSetName="made")
    stack = client.describe_stacks(StackName="shapes")["Stacks"][0]
    seen = {
        "Stack": [stack],
        "DescribeChangeSet": [change_set],
        "ChangeSetSummary": client.list_change_sets(StackName="shapes")["Summaries"],
        "ResourceChange": [each["ResourceChange"] for each in change_set["Changes"]],
        "StackEvent": client.describe_stack_events(StackName="shapes")["StackEvents"],
        "StackResource": client.describe_stack_resources(StackName="shapes")["StackResources"],
        "Output": stack["Outputs"],
    }
    facts = json.loads((Path(__file__).parents[1] / "aws_facts/cloudformation.json").read_text())["shapes"]
    wrong = [
        f"{shape} {'lacks' if is_required else 'has an empty'} {member}"
        for shape, fact in facts.items()
        for record in seen[shape]
        for is_required, members in ((True, fact["always"]), (False, fact["never_empty"]))
        for member in members
        if (member not in record if is_required else record.get(member, "present") in ("", [], {}))
    ]
    assert wrong == []
    assert (stack["Description"], stack["ChangeSetId"]) == ("said", change_set["ChangeSetId"])


def test_a_value_of_parameter_store_is_shown_as_resolved(region: RunningRegion) -> None:
    """test_template_engine: test_create_stack_with_ssm_parameters."""
    region.client("ssm").put_parameter(Name="/resolved/value", Value="v", Type="String")
    template = {
        "Parameters": {"P": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/resolved/value"}},
        "Resources": {"A": parameter({"Ref": "P"})},  # type: ignore[arg-type]
    }
    assert region.create("resolved", template).status == "CREATE_COMPLETE"
    stack = region.client("cloudformation").describe_stacks(StackName="resolved")["Stacks"][0]
    assert stack["Parameters"] == [{"ParameterKey": "P", "ParameterValue": "/resolved/value", "ResolvedValue": "v"}]


def test_response_is_readable_for_every_input(region: RunningRegion) -> None:
    """JSON allows characters that XML does not."""
    template = {"Description": "a\x00b\x1f<&>", "Resources": {"A": parameter("a")}}
    region.create("unreadable", template)
    stacks = region.client("cloudformation").describe_stacks()["Stacks"]
    assert [each["Description"] for each in stacks if each["StackName"] == "unreadable"] == ["a\ufffdb\ufffd<&>"]
