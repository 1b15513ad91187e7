"""Change sets through the API: names, conditions, and what they say of resources.

AWS's side was recorded by LocalStack's suite against AWS; the tests are named where a fact comes from one.
"""

from __future__ import annotations

import json
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


def test_the_name_of_a_change_set_that_waits_is_taken(region: RunningRegion) -> None:
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
