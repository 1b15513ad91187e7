"""The resource types that MiniStack lacks or gets wrong, and rules for every type."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from botocore.exceptions import ClientError

from alva.region.cloudformation import schemas
from tests.conftest import RunningRegion

pytestmark = pytest.mark.region


def one(resource_type: str, attributes: dict[str, Any] | None = None, **properties: Any) -> dict[str, Any]:
    """A template with one resource, and its Ref as an output."""
    resource = {"Type": resource_type, "Properties": properties, **(attributes or {})}
    return {"Resources": {"Thing": resource}, "Outputs": {"Ref": {"Value": {"Ref": "Thing"}}}}


# Secrets


def secret_value(region: RunningRegion, secret_id: str) -> str:
    return str(region.client("secretsmanager").get_secret_value(SecretId=secret_id)["SecretString"])


def test_ref_of_a_secret_is_its_arn(region: RunningRegion) -> None:
    stack = region.create("arn", one("AWS::SecretsManager::Secret", Name="named", SecretString="x"))
    assert stack.outputs["Ref"].startswith("arn:aws:secretsmanager:us-east-1:000000000000:secret:named-")


def test_a_generated_secret_obeys_every_exclusion_and_is_kept_by_an_update(region: RunningRegion) -> None:
    generate = {
        "SecretStringTemplate": '{"username": "admin"}',
        "GenerateStringKey": "password",
        "PasswordLength": 200,
        "ExcludePunctuation": True,
        "ExcludeCharacters": "abc",
        "ExcludeNumbers": "true",
    }
    template = one("AWS::SecretsManager::Secret", Name="generated", GenerateSecretString=generate)
    region.create("generated", template)
    before = secret_value(region, "generated")
    value = json.loads(before)
    assert value["username"] == "admin"
    assert len(value["password"]) == 200
    assert set(value["password"]) <= set(string.ascii_letters) - set("abc")
    template["Resources"]["Thing"]["Properties"]["Description"] = "changed"
    assert region.update("generated", template).status == "UPDATE_COMPLETE"
    assert secret_value(region, "generated") == before


def test_a_dynamic_reference_reads_one_key_of_a_secret(region: RunningRegion) -> None:
    region.create("source", one("AWS::SecretsManager::Secret", Name="source", SecretString='{"key": "found"}'))
    reference = "{{resolve:secretsmanager:source:SecretString:key}}"
    region.create("reader", one("AWS::SSM::Parameter", Name="/reader", Type="String", Value=reference))
    assert region.client("ssm").get_parameter(Name="/reader")["Parameter"]["Value"] == "found"


def test_a_secret_without_a_value_is_empty_until_an_update_gives_it_one(region: RunningRegion) -> None:
    assert region.create("empty", one("AWS::SecretsManager::Secret", Name="empty")).status == "CREATE_COMPLETE"
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        secret_value(region, "empty")
    filled = one("AWS::SecretsManager::Secret", Name="empty", SecretString="x")
    assert region.update("empty", filled).status == "UPDATE_COMPLETE"
    assert secret_value(region, "empty") == "x"


def test_a_secret_that_exists_is_not_overwritten(region: RunningRegion) -> None:
    region.client("secretsmanager").create_secret(Name="precious", SecretString="by hand")
    stack = region.create("precious", one("AWS::SecretsManager::Secret", Name="precious", SecretString="alva:unset"))
    assert stack.status == "ROLLBACK_COMPLETE"
    assert "already exists" in stack.reason("Thing", "CREATE_FAILED")
    assert secret_value(region, "precious") == "by hand"


def test_a_retained_secret_is_imported_by_its_arn(region: RunningRegion) -> None:
    retained = one("AWS::SecretsManager::Secret", {"DeletionPolicy": "Retain"}, Name="retained", SecretString="unset")
    arn = region.create("retained", retained).outputs["Ref"]
    region.client("secretsmanager").put_secret_value(SecretId=arn, SecretString="set by a person")
    region.delete("retained")
    cloudformation = region.client("cloudformation")
    del retained["Outputs"]
    cloudformation.create_change_set(
        StackName="retained",
        ChangeSetName="adopt",
        ChangeSetType="IMPORT",
        TemplateBody=json.dumps(retained),
        ResourcesToImport=[
            {
                "ResourceType": "AWS::SecretsManager::Secret",
                "LogicalResourceId": "Thing",
                "ResourceIdentifier": {"Id": arn},
            }
        ],
    )
    cloudformation.execute_change_set(StackName="retained", ChangeSetName="adopt")
    stack = region.settled("retained")
    assert stack.status == "IMPORT_COMPLETE"
    assert secret_value(region, "retained") == "set by a person"


def test_import_existing_resources_adopts_by_name_and_cannot_adopt_a_secret(region: RunningRegion) -> None:
    """As on AWS, a secret's identifier is its ARN, which a template cannot contain."""
    region.client("ecr").create_repository(repositoryName="mine")
    region.client("secretsmanager").create_secret(Name="mine", SecretString="by hand")
    cloudformation = region.client("cloudformation")

    def execute(name: str, template: dict[str, Any]) -> str:
        cloudformation.create_change_set(
            StackName=name,
            ChangeSetName="adopt",
            ChangeSetType="CREATE",
            TemplateBody=json.dumps(template),
            ImportExistingResources=True,
        )
        cloudformation.execute_change_set(StackName=name, ChangeSetName="adopt")
        return region.settled(name).status

    keep = {"DeletionPolicy": "Retain"}
    assert execute("adopts", one("AWS::ECR::Repository", keep, RepositoryName="mine")) == "CREATE_COMPLETE"
    secret = one("AWS::SecretsManager::Secret", keep, Name="mine", SecretString="x")
    assert execute("cannot", secret) == "ROLLBACK_COMPLETE"


# Every type


@pytest.mark.parametrize(
    ("resource_type", "properties"),
    [
        ("AWS::Logs::LogGroup", {"LogGroupName": "/taken"}),
        ("AWS::ECR::Repository", {"RepositoryName": "taken"}),
        ("AWS::SNS::Topic", {"TopicName": "taken"}),
        (
            "AWS::IAM::Role",
            {
                "RoleName": "taken",
                "AssumeRolePolicyDocument": {
                    "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]
                },
            },
        ),
    ],
)
def test_creation_of_an_existing_resource_fails(
    region: RunningRegion, resource_type: str, properties: dict[str, Any]
) -> None:
    name = resource_type.replace("::", "-")
    assert region.create(f"{name}-1", one(resource_type, **properties)).status == "CREATE_COMPLETE"
    second = region.create(f"{name}-2", one(resource_type, **properties))
    assert second.status == "ROLLBACK_COMPLETE"
    assert "already exists" in second.reason("Thing", "CREATE_FAILED")


def test_an_unknown_property_is_refused_in_cloudformations_words(region: RunningRegion) -> None:
    stack = region.create("property", one("AWS::EC2::VPC", CidrBlock="10.0.0.0/16", CiderBlock="10.0.0.0/16"))
    assert stack.reason("Thing", "CREATE_FAILED") == (
        "Properties validation failed for resource Thing with message:\n"
        "[#: extraneous key [CiderBlock] is not permitted]"
    )


def test_a_nested_unknown_and_a_missing_property_are_found() -> None:
    tags = [{"Key": "a", "Value": "b"}, {"Key": "a", "Valu": "b"}]
    assert schemas.problems("AWS::EC2::VPC", {"CidrBlock": "10.0.0.0/16", "Tags": tags}) == [
        "#/Tags/1: required key [Value] not found",
        "#/Tags/1: extraneous key [Valu] is not permitted",
    ]
    assert schemas.problems("AWS::EC2::SecurityGroup", {}) == ["#: required key [GroupDescription] not found"]
    assert schemas.problems("AWS::Unknown::Type", {"Anything": 1}) == []


def test_the_schemas_match_the_pinned_registry() -> None:
    """Run tools/resource_schemas.py when this fails."""
    import sys
    from pathlib import Path

    pytest.importorskip("cfnlint")
    sys.path.insert(0, str(Path(__file__).parents[3] / "tools"))
    try:
        import resource_schemas  # type: ignore[import-not-found]
    finally:
        sys.path.pop(0)
    before = schemas.FILE.read_text()
    assert resource_schemas.contents() == before


# Network


def test_address_in_use_by_a_gateway_cannot_be_deleted(region: RunningRegion) -> None:
    template: dict[str, Any] = {
        "Resources": {
            "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.1.0.0/16"}},
            "Subnet": {"Type": "AWS::EC2::Subnet", "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.1.1.0/24"}},
            "Address": {"Type": "AWS::EC2::EIP", "Properties": {"Domain": "vpc"}},
            "Gateway": {
                "Type": "AWS::EC2::NatGateway",
                "Properties": {
                    "SubnetId": {"Ref": "Subnet"},
                    "AllocationId": {"Fn::GetAtt": ["Address", "AllocationId"]},
                },
            },
        },
        "Outputs": {"Address": {"Value": {"Ref": "Address"}}, "Gateway": {"Value": {"Ref": "Gateway"}}},
    }
    stack = region.create("gateway", template)
    ec2 = region.client("ec2")
    addresses = {each["PublicIp"]: each for each in ec2.describe_addresses()["Addresses"]}
    address = addresses[stack.outputs["Address"]]
    (gateway,) = ec2.describe_nat_gateways(NatGatewayIds=[stack.outputs["Gateway"]])["NatGateways"]
    assert gateway["State"] == "available"
    assert address["AllocationId"].startswith("eipalloc-")
    assert region.delete("gateway").status == "DELETE_COMPLETE"


def test_separate_rules_are_created_and_deleted_without_changes_to_the_groups(region: RunningRegion) -> None:
    def rule(kind: str, port: int) -> dict[str, Any]:
        ends = "SourceSecurityGroupId" if kind == "Ingress" else "DestinationSecurityGroupId"
        group = {"Fn::GetAtt": ["Group", "GroupId"]}
        properties = {"GroupId": group, ends: group, "IpProtocol": "tcp", "FromPort": port, "ToPort": port}
        return {"Type": f"AWS::EC2::SecurityGroup{kind}", "Properties": properties}

    def permissions() -> tuple[list[int], list[int]]:
        (group,) = region.client("ec2").describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
        inward = [each["FromPort"] for each in group["IpPermissions"]]
        return inward, [each["FromPort"] for each in group["IpPermissionsEgress"] if "FromPort" in each]

    resources: dict[str, Any] = {
        "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.2.0.0/16"}},
        "Group": {
            "Type": "AWS::EC2::SecurityGroup",
            "Properties": {"GroupDescription": "services", "VpcId": {"Ref": "Vpc"}},
        },
        "In": rule("Ingress", 3000),
        "Out": rule("Egress", 3001),
    }
    outputs = {"Group": {"Value": {"Fn::GetAtt": ["Group", "GroupId"]}}}
    group_id = region.create("rules", {"Resources": resources, "Outputs": outputs}).outputs["Group"]
    assert permissions() == ([3000], [3001])
    resources["In"] = rule("Ingress", 3002)
    region.update("rules", {"Resources": resources, "Outputs": outputs})
    assert permissions() == ([3002], [3001])
    del resources["Out"]
    region.update("rules", {"Resources": resources, "Outputs": outputs})
    assert permissions() == ([3002], [])


def test_an_address_is_not_released_while_a_nat_gateway_uses_it(region: RunningRegion) -> None:
    def tagged(value: str) -> list[dict[str, str]]:
        return [{"Key": "kept", "Value": value}]

    def addresses(value: str) -> dict[str, Any]:
        address = {"Type": "AWS::EC2::EIP", "Properties": {"Domain": "vpc", "Tags": tagged(value)}}
        allocation = {"Fn::GetAtt": ["Address", "AllocationId"]}
        return {"Resources": {"Address": address}, "Outputs": {"Allocation": {"Value": allocation}}}

    def gateways(value: str) -> dict[str, Any]:
        properties = {"SubnetId": {"Ref": "Subnet"}, "AllocationId": allocation, "Tags": tagged(value)}
        resources = {
            "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.1.0.0/16"}},
            "Subnet": {"Type": "AWS::EC2::Subnet", "Properties": {"VpcId": {"Ref": "Vpc"}, "CidrBlock": "10.1.1.0/24"}},
            "Gateway": {"Type": "AWS::EC2::NatGateway", "Properties": properties},
        }
        return {"Resources": resources, "Outputs": {"Gateway": {"Value": {"Ref": "Gateway"}}}}

    ec2 = region.client("ec2")
    allocation = region.create("used-address", addresses("1")).outputs["Allocation"]
    gateway = region.create("using-gateway", gateways("1")).outputs["Gateway"]
    ec2.create_tags(Resources=[allocation, gateway], Tags=[{"Key": "by-hand", "Value": "x"}])
    region.update("used-address", addresses("2"))
    region.update("using-gateway", gateways("2"))
    (address,) = ec2.describe_addresses(AllocationIds=[allocation])["Addresses"]
    (described,) = ec2.describe_nat_gateways(NatGatewayIds=[gateway])["NatGateways"]
    for each in (address, described):
        own = {tag["Key"]: tag["Value"] for tag in each["Tags"] if not tag["Key"].startswith("aws:")}
        assert own == {"kept": "2", "by-hand": "x"}

    refused = region.delete("used-address")
    assert refused.status == "DELETE_FAILED"
    assert "AuthFailure" in refused.reason("Address", "DELETE_FAILED")
    assert region.delete("using-gateway").status == "DELETE_COMPLETE"
    assert region.delete("used-address").status == "DELETE_COMPLETE"
    assert ec2.describe_addresses(AllocationIds=[allocation])["Addresses"] == []


def test_a_separate_rule_has_the_id_of_ec2_and_is_refused_twice(region: RunningRegion) -> None:
    def template(description: str, *more: str) -> dict[str, Any]:
        rule = {
            "GroupId": {"Ref": "Group"},
            "IpProtocol": "tcp",
            "FromPort": "80",
            "ToPort": 80,
            "CidrIp": "10.2.0.0/16",
        }
        resources: dict[str, Any] = {
            "Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.2.0.0/16"}},
            "Group": {
                "Type": "AWS::EC2::SecurityGroup",
                "Properties": {"GroupDescription": "of rules", "VpcId": {"Ref": "Vpc"}},
            },
            "Rule": {"Type": "AWS::EC2::SecurityGroupIngress", "Properties": {**rule, "Description": description}},
        }
        for name in more:
            resources[name] = {"Type": "AWS::EC2::SecurityGroupIngress", "Properties": rule, "DependsOn": "Rule"}
        return {"Resources": resources, "Outputs": {"Rule": {"Value": {"Ref": "Rule"}}}}

    ec2 = region.client("ec2")
    rule_id = region.create("rule-id", template("one")).outputs["Rule"]
    (rule,) = ec2.describe_security_group_rules(SecurityGroupRuleIds=[rule_id])["SecurityGroupRules"]
    assert (rule["FromPort"], rule["CidrIpv4"], rule["Description"]) == (80, "10.2.0.0/16", "one")
    assert region.update("rule-id", template("two")).outputs["Rule"] == rule_id
    (rule,) = ec2.describe_security_group_rules(SecurityGroupRuleIds=[rule_id])["SecurityGroupRules"]
    assert rule["Description"] == "two"
    refused = region.update("rule-id", template("two", "Again"))
    assert refused.status == "UPDATE_ROLLBACK_COMPLETE"
    assert (
        'the specified rule "peer: 10.2.0.0/16, TCP, from port: 80, to port: 80, ALLOW" already exists '
        "(Service: Ec2, Status Code: 400, Error Code: InvalidPermission.Duplicate)"
    ) in refused.reason("Again", "CREATE_FAILED")
    assert "HandlerErrorCode: AlreadyExists" in refused.reason("Again", "CREATE_FAILED")


# Records without a data plane


def test_scaling_targets_and_policies_are_stored_and_described(region: RunningRegion) -> None:
    target = {
        "ServiceNamespace": "ecs",
        "ResourceId": "service/cluster/api",
        "ScalableDimension": "ecs:service:DesiredCount",
        "MinCapacity": 1,
        "MaxCapacity": 4,
    }
    tracking = {
        "TargetValue": 60,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"},
    }
    template = {
        "Resources": {
            "Target": {"Type": "AWS::ApplicationAutoScaling::ScalableTarget", "Properties": target},
            "Policy": {
                "Type": "AWS::ApplicationAutoScaling::ScalingPolicy",
                "Properties": {
                    "PolicyName": "cpu",
                    "PolicyType": "TargetTrackingScaling",
                    "ScalingTargetId": {"Ref": "Target"},
                    "TargetTrackingScalingPolicyConfiguration": tracking,
                },
            },
        }
    }
    assert region.create("scaling", template).status == "CREATE_COMPLETE"
    client = region.client("application-autoscaling")
    (seen,) = client.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"]
    assert (seen["MinCapacity"], seen["MaxCapacity"]) == (1, 4)
    (policy,) = client.describe_scaling_policies(ServiceNamespace="ecs")["ScalingPolicies"]
    assert policy["PolicyName"] == "cpu"
    with pytest.raises(ClientError, match="Maximum capacity cannot be less than minimum capacity"):
        client.register_scalable_target(**{**target, "MinCapacity": 5})
    assert region.delete("scaling").status == "DELETE_COMPLETE"
    assert client.describe_scalable_targets(ServiceNamespace="ecs")["ScalableTargets"] == []


def test_saved_queries_budgets_and_identity_providers_are_stored(region: RunningRegion) -> None:
    template: dict[str, Any] = {
        "Resources": {
            "Query": {
                "Type": "AWS::Logs::QueryDefinition",
                "Properties": {"Name": "errors", "QueryString": "fields @message", "LogGroupNames": ["/a"]},
            },
            "Budget": {
                "Type": "AWS::Budgets::Budget",
                "Properties": {
                    "Budget": {
                        "BudgetName": "monthly",
                        "BudgetType": "COST",
                        "TimeUnit": "MONTHLY",
                        "BudgetLimit": {"Amount": 250, "Unit": "USD"},
                    }
                },
            },
            "Provider": {
                "Type": "AWS::IAM::OIDCProvider",
                "Properties": {"Url": "https://token.example.com", "ClientIdList": ["sts.amazonaws.com"]},
            },
        }
    }
    assert region.create("records", template).status == "CREATE_COMPLETE"
    (query,) = region.client("logs").describe_query_definitions()["queryDefinitions"]
    assert query["name"] == "errors"
    account = region.config.account_id
    assert region.client("budgets").describe_budget(AccountId=account, BudgetName="monthly")["Budget"]
    arn = f"arn:aws:iam::{account}:oidc-provider/token.example.com"
    provider = region.client("iam").get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert provider["ClientIDList"] == ["sts.amazonaws.com"]
    template["Resources"]["Query"]["Properties"]["QueryString"] = "fields @timestamp"
    assert region.update("records", template).status == "UPDATE_COMPLETE"
    (query,) = region.client("logs").describe_query_definitions()["queryDefinitions"]
    assert query["queryString"] == "fields @timestamp"
    assert region.delete("records").status == "DELETE_COMPLETE"
    assert region.client("logs").describe_query_definitions()["queryDefinitions"] == []
