"""Stacks through the API with boto3: order, rollback, change sets, exports, deletion."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.conftest import RunningRegion
from tests.waiting import until

pytestmark = pytest.mark.region

LOG_GROUP = "AWS::Logs::LogGroup"


def log_group(name: str, **attributes: Any) -> dict[str, Any]:
    return {"Type": LOG_GROUP, "Properties": {"LogGroupName": name}, **attributes}


def impossible(*after: str) -> dict[str, Any]:
    """A resource whose creation fails."""
    properties = {"SubnetId": "subnet-nowhere", "AllocationId": "eipalloc-none"}
    return {"Type": "AWS::EC2::NatGateway", "DependsOn": list(after), "Properties": properties}


def names_of_log_groups(region: RunningRegion, prefix: str) -> list[str]:
    groups = region.client("logs").describe_log_groups(logGroupNamePrefix=prefix)["logGroups"]
    return [group["logGroupName"] for group in groups]


def test_failed_creation_leaves_no_resource_and_reports_the_reason(region: RunningRegion) -> None:
    stack = region.create("fails", {"Resources": {"Group": log_group("/fails"), "Bad": impossible("Group")}})
    assert stack.status == "ROLLBACK_COMPLETE"
    assert stack.history("Group") == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE", "DELETE_IN_PROGRESS", "DELETE_COMPLETE"]
    assert "The subnet ID 'subnet-nowhere' does not exist" in stack.reason("Bad", "CREATE_FAILED")
    assert stack.reason("fails", "ROLLBACK_IN_PROGRESS") == (
        "The following resource(s) failed to create: [Bad]. Rollback requested by user."
    )
    assert names_of_log_groups(region, "/fails") == []


def test_events_are_newest_first_with_unique_times_and_ids(region: RunningRegion) -> None:
    groups = {f"Group{number}": log_group(f"/events/{number}") for number in range(12)}
    stack = region.create("events", {"Resources": groups})
    assert stack.status == "CREATE_COMPLETE"
    told = region.client("cloudformation").describe_stack_events(StackName="events")["StackEvents"]
    assert told == stack.events[::-1]
    times = [event["Timestamp"] for event in told]
    assert len(times) == 2 + 2 * len(groups)
    assert times == sorted(set(times), reverse=True)
    assert len({event["EventId"] for event in told}) == len(told)
    assert [told[0]["ResourceStatus"], told[-1]["ResourceStatus"]] == ["CREATE_COMPLETE", "CREATE_IN_PROGRESS"]


def test_a_stack_in_rollback_complete_must_be_deleted_first(region: RunningRegion) -> None:
    region.create("dead", {"Resources": {"Bad": impossible()}})
    good = {"Resources": {"Group": log_group("/dead")}}
    with pytest.raises(ClientError, match="already exists"):
        region.create("dead", good)
    with pytest.raises(ClientError, match="is in ROLLBACK_COMPLETE state and can not be updated"):
        region.update("dead", good)
    with pytest.raises(ClientError, match="is in ROLLBACK_COMPLETE state and can not be updated"):
        region.client("cloudformation").create_change_set(
            StackName="dead", ChangeSetName="again", ChangeSetType="CREATE", TemplateBody=json.dumps(good)
        )
    assert region.delete("dead").status == "DELETE_COMPLETE"
    assert region.create("dead", good).status == "CREATE_COMPLETE"


def test_failed_update_is_rolled_back(region: RunningRegion) -> None:
    before = {
        "Resources": {"Kept": log_group("/update/kept"), "Gone": log_group("/update/gone")},
        "Outputs": {"Name": {"Value": {"Ref": "Kept"}, "Export": {"Name": "update-kept"}}},
    }
    region.create("update", before)
    after: dict[str, Any] = {
        "Resources": {
            "Kept": log_group("/update/kept"),
            "New": log_group("/update/new"),
            "Bad": impossible("Kept", "New"),
        },
        "Outputs": {"Name": {"Value": "other", "Export": {"Name": "update-other"}}},
    }
    after["Resources"]["Kept"]["Properties"]["RetentionInDays"] = 7
    stack = region.update("update", after)
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert stack.outputs == {"Name": "/update/kept"}
    groups = region.client("logs").describe_log_groups(logGroupNamePrefix="/update")["logGroups"]
    assert {group["logGroupName"]: group.get("retentionInDays") for group in groups} == {
        "/update/kept": None,
        "/update/gone": None,
    }
    exports = {export["Name"] for export in region.client("cloudformation").list_exports()["Exports"]}
    assert "update-kept" in exports
    assert "update-other" not in exports


def test_update_changes_only_the_changed_resources(region: RunningRegion) -> None:
    resources = {"Same": log_group("/touch/same"), "Changed": log_group("/touch/changed")}
    region.create("touch", {"Resources": resources})
    resources["Changed"]["Properties"]["RetentionInDays"] = 3
    resources["Added"] = log_group("/touch/added")
    stack = region.update("touch", {"Resources": resources})
    assert stack.status == "UPDATE_COMPLETE"
    assert stack.history("Same") == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]
    assert stack.history("Changed")[-2:] == ["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"]
    assert stack.history("Added") == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]


def test_replacement_makes_the_new_one_before_it_deletes_the_old_one(region: RunningRegion) -> None:
    def template(cidr_block: str) -> dict[str, Any]:
        vpc = {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.9.0.0/16"}}
        gateway = {
            "Type": "AWS::EC2::NatGateway",
            "Properties": {"SubnetId": {"Ref": "Subnet"}, "ConnectivityType": cidr_block},
        }
        if cidr_block == "public":
            gateway["Properties"]["AllocationId"] = {"Fn::GetAtt": ["Address", "AllocationId"]}  # type: ignore[index]
        return {
            "Resources": {
                "Vpc": vpc,
                "Subnet": {
                    "Type": "AWS::EC2::Subnet",
                    "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.9.1.0/24"},
                },
                "Address": {"Type": "AWS::EC2::EIP", "Properties": {"Domain": "vpc"}},
                "Gateway": gateway,
            },
            "Outputs": {"Gateway": {"Value": {"Ref": "Gateway"}}},
        }

    old = region.create("replace", template("private")).outputs["Gateway"]
    stack = region.update("replace", template("public"))
    assert stack.outputs["Gateway"] != old
    statuses = [event["ResourceStatus"] for event in stack.events if event["LogicalResourceId"] == "Gateway"][2:]
    assert statuses == ["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE", "DELETE_IN_PROGRESS", "DELETE_COMPLETE"]


def test_a_change_of_the_outputs_alone_is_a_change_set(region: RunningRegion) -> None:
    template: dict[str, Any] = {"Resources": {"Group": log_group("/outputs")}}
    region.create("outputs", template)
    template["Outputs"] = {"Group": {"Value": {"Ref": "Group"}, "Export": {"Name": "outputs-group"}}}
    client = region.client("cloudformation")
    client.create_change_set(StackName="outputs", ChangeSetName="add", TemplateBody=json.dumps(template))
    change_set = client.describe_change_set(StackName="outputs", ChangeSetName="add")
    assert (change_set["Status"], change_set["ExecutionStatus"]) == ("CREATE_COMPLETE", "AVAILABLE")
    client.execute_change_set(StackName="outputs", ChangeSetName="add")
    assert region.settled("outputs").outputs == {"Group": "/outputs"}
    client.create_change_set(StackName="outputs", ChangeSetName="none", TemplateBody=json.dumps(template))
    nothing = client.describe_change_set(StackName="outputs", ChangeSetName="none")
    assert nothing["Status"] == "FAILED"
    assert "didn't contain changes" in nothing["StatusReason"]


def test_an_export_in_use_can_neither_change_nor_go(region: RunningRegion) -> None:
    def exporter(value: str) -> dict[str, Any]:
        exports = {"Out": {"Value": value, "Export": {"Name": "in-use"}}} if value else {}
        return {"Resources": {"Group": log_group("/exporter")}, "Outputs": exports}

    region.create("exporter", exporter("first"))
    importer = {
        "Resources": {"Group": log_group("/importer")},
        "Outputs": {"In": {"Value": {"Fn::ImportValue": "in-use"}}},
    }
    assert region.create("importer", importer).outputs == {"In": "first"}
    for value in ("second", ""):
        stack = region.update("exporter", exporter(value))
        assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
        assert "as it is in use by importer" in stack.reason("exporter", "UPDATE_FAILED")
    stack = region.delete("exporter")
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert stack.reason("exporter", stack.status) == (
        "Delete canceled. Cannot delete export in-use as it is in use by importer."
    )
    region.delete("importer")
    assert region.delete("exporter").status == "DELETE_COMPLETE"


def test_an_unknown_resource_type_is_refused_by_name(region: RunningRegion) -> None:
    for resource_type in ("AWS::DynamoDB::Table", "AWS::EC2::Instance", "AWS::Nothing::AtAll"):
        with pytest.raises(ClientError, match=f"Unrecognized resource types: \\[{resource_type}\\]"):
            region.create("unknown", {"Resources": {"Thing": {"Type": resource_type, "Properties": {}}}})


def test_a_service_that_is_not_offered_refuses(region: RunningRegion) -> None:
    with pytest.raises(ClientError):
        region.client("dynamodb").list_tables()


def test_retained_resources_survive_their_stack(region: RunningRegion) -> None:
    region.create("retain", {"Resources": {"Group": log_group("/retain", DeletionPolicy="Retain")}})
    stack = region.delete("retain")
    assert stack.history("Group")[-1] == "DELETE_SKIPPED"
    assert names_of_log_groups(region, "/retain") == ["/retain"]


def test_a_template_above_the_inline_limit_is_refused(region: RunningRegion) -> None:
    template = {"Description": "x", "Metadata": {"Padding": "x" * 52_000}, "Resources": {"Group": log_group("/big")}}
    with pytest.raises(ClientError, match="51200"):
        region.create("big", template)


def test_deletion_stops_a_creation(region: RunningRegion) -> None:
    """As on AWS, the creation is interrupted, and its resources are deleted."""
    subnets = {
        f"Subnet{zone}": {
            "Type": "AWS::EC2::Subnet",
            "Properties": {
                "VpcId": {"Ref": "Vpc"},
                "CidrBlock": f"10.7.{third}.0/24",
                "AvailabilityZone": f"us-east-1{zone}",
            },
        }
        for zone, third in (("a", 1), ("b", 2))
    }
    template = {
        "Resources": {
            "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.7.0.0/16"}},
            **subnets,
            "SubnetGroup": {
                "Type": "AWS::RDS::DBSubnetGroup",
                "Properties": {
                    "DBSubnetGroupDescription": "x",
                    "SubnetIds": [{"Ref": name} for name in subnets],
                },
            },
            "Database": {
                "Type": "AWS::RDS::DBInstance",
                "DeletionPolicy": "Delete",
                "Properties": {
                    "DBInstanceIdentifier": "interrupted",
                    "Engine": "postgres",
                    "DBInstanceClass": "db.t3.micro",
                    "AllocatedStorage": "20",
                    "MasterUsername": "someone",
                    "MasterUserPassword": "long-enough-1",
                    "DBSubnetGroupName": {"Ref": "SubnetGroup"},
                },
            },
        }
    }
    client = region.client("cloudformation")
    client.create_stack(StackName="interrupted", TemplateBody=json.dumps(template))
    until(
        lambda: any(
            resource["LogicalResourceId"] == "Database"
            for resource in client.describe_stack_events(StackName="interrupted")["StackEvents"]
        ),
        "the database's creation to begin",
    )
    stack = region.delete("interrupted")
    assert stack.status == "DELETE_COMPLETE"
    assert stack.history("Database")[-1] == "DELETE_COMPLETE"
    assert "CREATE_COMPLETE" not in stack.history("interrupted")
    assert region.client("rds").describe_db_instances()["DBInstances"] == []


def test_a_change_set_lists_added_changed_replaced_and_removed_resources_and_changes_nothing(
    region: RunningRegion,
) -> None:
    def template(**resources: Any) -> str:
        return json.dumps({"Resources": resources})

    before = {"Kept": log_group("/says/kept"), "Moved": log_group("/says/old"), "Gone": log_group("/says/gone")}
    region.create("says", {"Resources": before})
    kept = log_group("/says/kept")
    kept["Properties"]["RetentionInDays"] = 7
    client = region.client("cloudformation")
    client.create_change_set(
        StackName="says",
        ChangeSetName="all",
        TemplateBody=template(Kept=kept, Moved=log_group("/says/new"), Added=log_group("/says/added")),
    )
    changes = client.describe_change_set(StackName="says", ChangeSetName="all")["Changes"]
    assert {
        change["ResourceChange"]["LogicalResourceId"]: (
            change["ResourceChange"]["Action"],
            change["ResourceChange"].get("Replacement"),
        )
        for change in changes
    } == {"Kept": ("Modify", "False"), "Moved": ("Modify", "True"), "Gone": ("Remove", None), "Added": ("Add", None)}
    assert names_of_log_groups(region, "/says") == ["/says/gone", "/says/kept", "/says/old"]
    client.delete_change_set(StackName="says", ChangeSetName="all")
    assert client.list_change_sets(StackName="says")["Summaries"] == []
    assert region.settled("says").status == "CREATE_COMPLETE"


def test_resource_deleted_outside_its_stack_cannot_be_updated(region: RunningRegion) -> None:
    name = "behind-its-back"

    def group(days: int) -> dict[str, Any]:
        properties = {"LogGroupName": f"/{name}", "RetentionInDays": days}
        return {"Resources": {"Group": {"Type": "AWS::Logs::LogGroup", "Properties": properties}}}

    region.create(name, group(7))
    region.client("logs").delete_log_group(logGroupName=f"/{name}")
    updated = region.update(name, group(14))
    assert "UPDATE_COMPLETE" not in updated.history(name)
    assert f"Resource of type 'AWS::Logs::LogGroup' with identifier '/{name}' was not found." in updated.reason(
        "Group", "UPDATE_FAILED"
    )
    assert region.client("logs").describe_log_groups(logGroupNamePrefix=f"/{name}")["logGroups"] == []
    region.delete(name)
