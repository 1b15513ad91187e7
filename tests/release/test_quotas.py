"""The templates' demand compared with the account's quotas."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.stub import Stubber

from alva.aws import Aws, Target
from alva.release.quotas import QUOTAS, NoQuotas, demands


def network(*zones: str) -> dict[str, Any]:
    """A VPC with an internet gateway, and a NAT gateway with an address in each zone."""
    resources: dict[str, Any] = {"Vpc": {"Type": "AWS::EC2::VPC"}, "Gateway": {"Type": "AWS::EC2::InternetGateway"}}
    for zone in zones:
        resources[f"Subnet{zone}"] = {"Type": "AWS::EC2::Subnet", "Properties": {"AvailabilityZone": zone}}
        resources[f"Address{zone}"] = {"Type": "AWS::EC2::EIP", "Properties": {}}
        resources[f"Nat{zone}"] = {
            "Type": "AWS::EC2::NatGateway",
            "Properties": {"SubnetId": {"Ref": f"Subnet{zone}"}},
        }
    return {"Resources": resources}


def services(*counts: int, cpu: str = "512", percent: int = 200) -> dict[str, Any]:
    resources: dict[str, Any] = {"Migration": {"Type": "AWS::ECS::TaskDefinition", "Properties": {"Cpu": "256"}}}
    for index, count in enumerate(counts):
        resources[f"Tasks{index}"] = {"Type": "AWS::ECS::TaskDefinition", "Properties": {"Cpu": cpu}}
        resources[f"Service{index}"] = {
            "Type": "AWS::ECS::Service",
            "Properties": {
                "TaskDefinition": {"Ref": f"Tasks{index}"},
                "DesiredCount": count,
                "DeploymentConfiguration": {"MaximumPercent": percent},
            },
        }
    return {"Resources": resources}


class Account:
    """An account with these quotas and existing resources; botocore validates the responses."""

    def __init__(self, *, vpcs: int, addresses: int, nat_gateways: dict[str, str], limits: dict[str, float]) -> None:
        self.aws = Aws(Target.local("http://127.0.0.1:9"))
        ec2 = Stubber(self.aws.ec2)
        quotas = Stubber(self.aws.client("service-quotas"))
        for stub, order in ((ec2, self._ec2(vpcs, addresses, nat_gateways)), (quotas, self._quotas(limits))):
            for operation, answer in order:
                stub.add_response(operation, answer)
            stub.activate()

    def _ec2(self, vpcs: int, addresses: int, nat_gateways: dict[str, str]) -> list[tuple[str, dict[str, Any]]]:
        subnets = {gateway: f"subnet-{gateway}" for gateway in nat_gateways}
        return [
            ("describe_vpcs", {"Vpcs": [{"VpcId": f"vpc-{n}"} for n in range(vpcs)]}),
            ("describe_internet_gateways", {"InternetGateways": []}),
            ("describe_addresses", {"Addresses": [{"PublicIp": f"192.0.2.{n}"} for n in range(addresses)]}),
            (
                "describe_nat_gateways",
                {
                    "NatGateways": [
                        *({"NatGatewayId": each, "State": "available", "SubnetId": subnets[each]} for each in subnets),
                        {"NatGatewayId": "nat-old", "State": "deleted", "SubnetId": "subnet-old"},
                    ]
                },
            ),
            *(
                [
                    (
                        "describe_subnets",
                        {
                            "Subnets": [
                                {"SubnetId": subnets[gateway], "AvailabilityZone": zone}
                                for gateway, zone in nat_gateways.items()
                            ]
                        },
                    )
                ]
                if nat_gateways
                else []
            ),
        ]

    def _quotas(self, limits: dict[str, float]) -> list[tuple[str, dict[str, Any]]]:
        return [("get_service_quota", {"Quota": {"Value": limits[quota.name]}}) for quota in QUOTAS]


LIMITS = {
    "Fargate vCPUs": 6.0,
    "Fargate Spot vCPUs": 6.0,
    "VPCs": 5.0,
    "internet gateways": 5.0,
    "elastic IP addresses": 5.0,
    "NAT gateways in one zone": 5.0,
}


def found(account: Account, templates: list[dict[str, Any]], deployed: list[dict[str, Any]]) -> dict[str, str]:
    return {
        each.name: f"{each.total:g} of {each.limit:g}{'' if each.is_met else ' !'}"
        for each in demands(account.aws, templates, deployed)
    }


def test_first_release_is_added_to_the_accounts_usage() -> None:
    account = Account(vpcs=5, addresses=3, nat_gateways={"nat-1": "us-east-1a", "nat-2": "us-east-1b"}, limits=LIMITS)
    assert found(account, [network("us-east-1a"), services(1, 1, 1, 1)], []) == {
        "Fargate vCPUs": "4.25 of 6",
        "Fargate Spot vCPUs": "0 of 6",
        "VPCs": "6 of 5 !",
        "internet gateways": "1 of 5",
        "elastic IP addresses": "4 of 5",
        "NAT gateways in one zone": "2 of 5",
    }


def test_deployed_resources_are_not_counted_twice_and_growth_is_counted() -> None:
    account = Account(vpcs=2, addresses=5, nat_gateways={"nat-1": "us-east-1a"}, limits=LIMITS)
    deployed = [network("us-east-1a"), services(1)]
    assert found(account, [network("us-east-1a", "us-east-1b"), services(6, 1)], deployed) == {
        "Fargate vCPUs": "7.25 of 6 !",
        "Fargate Spot vCPUs": "0 of 6",
        "VPCs": "2 of 5",
        "internet gateways": "0 of 5",
        "elastic IP addresses": "6 of 5 !",
        "NAT gateways in one zone": "1 of 5",
    }


def test_default_quota_applies_without_an_own_value() -> None:
    aws = Aws(Target.local("http://127.0.0.1:9"))
    with Stubber(aws.client("service-quotas")) as quotas:
        for quota in QUOTAS:
            quotas.add_client_error("get_service_quota", "NoSuchResourceException")
            quotas.add_response(
                "get_aws_default_service_quota",
                {"Quota": {"Value": 64.0}},
                {"ServiceCode": quota.service_code, "QuotaCode": quota.code},
            )
        with Stubber(aws.ec2) as ec2:
            for operation, key in (
                ("describe_vpcs", "Vpcs"),
                ("describe_internet_gateways", "InternetGateways"),
                ("describe_addresses", "Addresses"),
                ("describe_nat_gateways", "NatGateways"),
            ):
                ec2.add_response(operation, {key: []})
            assert {each.limit for each in demands(aws, [services(1)], [])} == {64.0}


def test_missing_service_quotas_is_distinguished_from_a_refusal(aws: Aws) -> None:
    with pytest.raises(NoQuotas):
        demands(aws, [services(1)], [])


def scaled(provider: str) -> dict[str, Any]:
    """One service of one vCPU that scales from 2 to 6 tasks, without its own desired count."""
    template = services(1, cpu="1024")
    properties = template["Resources"]["Service0"]["Properties"]
    del properties["DesiredCount"]
    properties |= {"ServiceName": "alva-web", "CapacityProviderStrategy": [{"CapacityProvider": provider}]}
    resource_id = {"Fn::Join": ["", ["service/", {"Fn::ImportValue": "cluster"}, "/alva-web"]]}
    template["Resources"]["Target"] = {
        "Type": "AWS::ApplicationAutoScaling::ScalableTarget",
        "Properties": {"ResourceId": resource_id, "MinCapacity": 2, "MaxCapacity": 6},
    }
    return template


@pytest.mark.parametrize(
    ("provider", "on_demand", "spot"), [("FARGATE", (4.25, 12.25), (0, 0)), ("FARGATE_SPOT", (0.25, 0.25), (4, 12))]
)
def test_service_that_scales_is_counted_at_its_least_and_at_its_most_on_its_own_quota(
    provider: str, on_demand: tuple[float, float], spot: tuple[float, float]
) -> None:
    account = Account(vpcs=0, addresses=0, nat_gateways={}, limits=LIMITS)
    told = {each.name: each for each in demands(account.aws, [scaled(provider)], [])}
    assert (told["Fargate vCPUs"].total, told["Fargate vCPUs"].most) == on_demand
    assert (told["Fargate Spot vCPUs"].total, told["Fargate Spot vCPUs"].most) == spot
    assert told["VPCs"].is_met_at_most
