"""Risks of a release: wider permissions, opened ports, lost data. No calls."""

from __future__ import annotations

from typing import Any

import pytest

from alva.release.change_sets import ResourceChange
from alva.release.risks import Kind, interruptions, lost_data, widened_network, widened_permissions


def role(*statements: dict[str, Any], **properties: Any) -> dict[str, Any]:
    document = {"Version": "2012-10-17", "Statement": list(statements)}
    policies = [{"PolicyName": "p", "PolicyDocument": document}]
    return {"Resources": {"Role": {"Type": "AWS::IAM::Role", "Properties": {"Policies": policies, **properties}}}}


def allow(action: Any, resource: Any = "arn:a", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def group(*rules: dict[str, Any]) -> dict[str, Any]:
    return {
        "Resources": {"Group": {"Type": "AWS::EC2::SecurityGroup", "Properties": {"SecurityGroupIngress": list(rules)}}}
    }


def port(first: int, last: int, peer: Any = "10.0.0.0/16", protocol: str = "tcp") -> dict[str, Any]:
    return {"IpProtocol": protocol, "FromPort": first, "ToPort": last, "CidrIp": peer}


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (role(allow(["s3:GetObject", "s3:PutObject"])), "may now s3:PutObject on arn:a"),
        (role(allow("s3:*")), "may now s3:* on arn:a"),
        (role(allow("s3:GetObject", "*")), "may now s3:GetObject on *"),
        (role(allow("s3:GetObject"), allow("s3:GetObject", {"Ref": "Other"})), "may now s3:GetObject on Other"),
        (role(allow("s3:GetObject"), ManagedPolicyArns=["arn:aws:x"]), "gets the managed policy arn:aws:x"),
    ],
)
def test_wider_permission_is_found(new: dict[str, Any], message: str) -> None:
    (risk,) = widened_permissions("stack", role(allow("s3:GetObject")), new)
    assert risk.kind is Kind.IAM
    assert risk.subject == "stack/Role"
    assert risk.message == message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (role(allow(["s3:GetObject", "s3:PutObject"])), role(allow("s3:GetObject"))),
        (role(allow("s3:*")), role(allow("s3:GetObject"))),
        (role(allow("s3:GetObject", "*")), role(allow("s3:GetObject"))),
        (role(allow(["a:B", "a:C"])), role(allow("a:C"), allow("a:B"))),
        (role(allow("a:B")), role(allow("a:B", Condition={"Bool": {"x": "y"}}))),
    ],
)
def test_narrower_or_rewritten_permission_is_no_risk(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert list(widened_permissions("stack", old, new)) == []


def test_removed_condition_and_removed_deny_are_wider_permissions() -> None:
    conditional = role(allow("a:B", Condition={"Bool": {"x": "y"}}))
    assert [r.message for r in widened_permissions("s", conditional, role(allow("a:B")))] == ["may now a:B on arn:a"]
    denied = role({"Effect": "Deny", "Action": "a:B", "Resource": "*"})
    assert [r.message for r in widened_permissions("s", denied, role())] == ["is no longer denied to a:B on *"]


def test_trust_of_another_principal_is_wider() -> None:
    def trusting(*services: str) -> dict[str, Any]:
        statements = [{"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": s}} for s in services]
        return role(AssumeRolePolicyDocument={"Version": "2012-10-17", "Statement": statements})

    (risk,) = widened_permissions("s", trusting("ecs"), trusting("ecs", "lambda"))
    assert "lambda" in risk.message


def test_opened_port_is_found_and_a_narrowed_one_is_not() -> None:
    (risk,) = widened_network("stack", group(port(3000, 3003)), group(port(3000, 3003), port(22, 22, "0.0.0.0/0")))
    assert risk.kind is Kind.NETWORK
    assert risk.message == "tcp 22 now comes in from 0.0.0.0/0"
    assert list(widened_network("stack", group(port(3000, 3003)), group(port(3001, 3002)))) == []
    assert list(widened_network("stack", group(port(0, 0, protocol="-1")), group(port(3001, 3002)))) == []


def test_rule_that_moves_to_its_own_resource_is_no_risk() -> None:
    apart = {
        "Resources": {
            "Group": {"Type": "AWS::EC2::SecurityGroup", "Properties": {}},
            "Rule": {
                "Type": "AWS::EC2::SecurityGroupIngress",
                "Properties": {"GroupId": {"Fn::GetAtt": ["Group", "GroupId"]}, **port(80, 80)},
            },
        }
    }
    assert list(widened_network("stack", group(port(80, 80)), apart)) == []


def test_database_that_becomes_public_is_found() -> None:
    def database(*, public: bool) -> dict[str, Any]:
        return {"Resources": {"D": {"Type": "AWS::RDS::DBInstance", "Properties": {"PubliclyAccessible": public}}}}

    (risk,) = widened_network("stack", database(public=False), database(public=True))
    assert risk.message == "becomes public (PubliclyAccessible: True)"


def database_change(**values: Any) -> ResourceChange:
    return ResourceChange(logical_id="D", type="AWS::RDS::DBInstance", **values)


OLD = {"Resources": {"D": {"DeletionPolicy": "Snapshot", "UpdateReplacePolicy": "Snapshot"}}}


def test_replaced_and_removed_databases_are_found_with_their_snapshots() -> None:
    replaced = database_change(action="Modify", replacement="True", properties=("StorageEncrypted",))
    (risk,) = lost_data("stack", OLD, [replaced])
    assert risk.kind is Kind.DATA
    assert (
        "is replaced (StorageEncrypted): the new one is empty, the old one is kept as a snapshot only" in risk.message
    )
    (risk,) = lost_data("stack", {}, [database_change(action="Remove")])
    assert "is removed: it is deleted" in risk.message


def test_changes_that_keep_the_data_are_not_mentioned() -> None:
    retained = {"Resources": {"D": {"DeletionPolicy": "Retain"}}}
    assert list(lost_data("stack", OLD, [database_change(action="Modify", replacement="False")])) == []
    assert list(lost_data("stack", retained, [database_change(action="Remove")])) == []
    task = ResourceChange(logical_id="T", type="AWS::ECS::TaskDefinition", action="Modify", replacement="True")
    assert list(lost_data("stack", {}, [task])) == []


@pytest.mark.parametrize(
    ("type_name", "properties", "message"),
    [
        ("ElasticLoadBalancingV2::TargetGroup", ("Port",), "Port: is replaced"),
        ("ElasticLoadBalancingV2::TargetGroup", ("HealthCheckPath",), None),
        ("ElasticLoadBalancingV2::Listener", ("Port",), "Port: no longer listens"),
        ("ECS::Service", ("TaskDefinition", "LoadBalancers"), None),
        ("RDS::DBInstance", ("AllocatedStorage", "DBInstanceClass"), "DBInstanceClass: the database restarts"),
    ],
)
def test_change_that_users_notice_is_announced(
    type_name: str, properties: tuple[str, ...], message: str | None
) -> None:
    change = ResourceChange(logical_id="It", type=f"AWS::{type_name}", action="Modify", properties=properties)
    found = list(interruptions("stack", [change]))
    assert [risk.kind for risk in found] == ([Kind.OUTAGE] if message else [])
    assert all(risk.message.startswith(message or "") for risk in found)
