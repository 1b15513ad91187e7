"""The VPC, its routes and its security groups."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from lib.config.environments import STAGING

from tests.cdk import start_cdk


def group(name: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [f"{name.capitalize()}SecurityGroup", "GroupId"]}


def ingress(staging: Any, name: str) -> list[tuple[int, int, Any]]:
    """Return every ingress rule of a group: inline rules and separate resources."""
    inline = staging.one("network", "EC2::SecurityGroup", GroupName=f"alva-staging-{name}").get(
        "SecurityGroupIngress", []
    )
    apart = [
        each.properties
        for each in staging.resources("network", "EC2::SecurityGroupIngress")
        if each.properties["GroupId"] == group(name)
    ]
    return [
        (rule["FromPort"], rule["ToPort"], rule.get("CidrIp") or rule["SourceSecurityGroupId"])
        for rule in [*inline, *apart]
    ]


def egress(staging: Any, name: str) -> list[tuple[int, int, Any]]:
    inline = staging.one("network", "EC2::SecurityGroup", GroupName=f"alva-staging-{name}")["SecurityGroupEgress"]
    apart = [
        each.properties
        for each in staging.resources("network", "EC2::SecurityGroupEgress")
        if each.properties["GroupId"] == group(name)
    ]
    return [
        (rule["FromPort"], rule["ToPort"], rule.get("CidrIp") or rule["DestinationSecurityGroupId"])
        for rule in [*inline, *apart]
        if rule["IpProtocol"] != "icmp"
    ]


def test_vpc_has_the_expected_settings(staging: Any) -> None:
    vpc = staging.one("network", "EC2::VPC")
    assert (vpc["CidrBlock"], vpc["EnableDnsHostnames"], vpc["EnableDnsSupport"]) == ("10.0.0.0/16", True, True)


def test_subnets_have_the_expected_cidrs_and_zones(staging: Any) -> None:
    subnets = {
        each.properties["CidrBlock"]: (each.properties["AvailabilityZone"], each.properties["MapPublicIpOnLaunch"])
        for each in staging.resources("network", "EC2::Subnet")
    }
    assert subnets == {
        "10.0.1.0/24": ("us-east-1a", True),
        "10.0.2.0/24": ("us-east-1b", True),
        "10.0.10.0/24": ("us-east-1a", False),
        "10.0.11.0/24": ("us-east-1b", False),
    }


def test_private_subnets_route_through_one_nat_gateway_in_the_first_zone(staging: Any) -> None:
    (gateway,) = staging.resources("network", "EC2::NatGateway")
    assert gateway.properties["SubnetId"] == {"Ref": "PublicSubnetA"}
    assert len(staging.resources("network", "EC2::EIP")) == 1
    routes = [each.properties for each in staging.resources("network", "EC2::Route")]
    through_nat = {
        route["RouteTableId"]["Ref"]
        for route in routes
        if route.get("NatGatewayId") == {"Ref": gateway.logical_id} and route["DestinationCidrBlock"] == "0.0.0.0/0"
    }
    assert through_nat == {"PrivateARouteTable", "PrivateBRouteTable"}


def test_public_subnets_route_through_the_internet_gateway(staging: Any) -> None:
    (route,) = [
        each.properties for each in staging.resources("network", "EC2::Route") if "GatewayId" in each.properties
    ]
    assert route["RouteTableId"] == {"Ref": "PublicRouteTable"}
    assert route["GatewayId"] == {"Ref": "InternetGateway"}
    associated = {
        each.properties["SubnetId"]["Ref"]: each.properties["RouteTableId"]["Ref"]
        for each in staging.resources("network", "EC2::SubnetRouteTableAssociation")
    }
    assert associated == {
        "PublicSubnetA": "PublicRouteTable",
        "PublicSubnetB": "PublicRouteTable",
        "PrivateSubnetA": "PrivateARouteTable",
        "PrivateSubnetB": "PrivateBRouteTable",
    }


def test_image_layers_are_downloaded_through_the_s3_gateway(staging: Any) -> None:
    endpoint = staging.one("network", "EC2::VPCEndpoint")
    assert endpoint["ServiceName"] == "com.amazonaws.us-east-1.s3"
    assert endpoint["VpcEndpointType"] == "Gateway"
    assert [each["Ref"] for each in endpoint["RouteTableIds"]] == ["PrivateARouteTable", "PrivateBRouteTable"]


def test_load_balancer_listens_to_everybody_on_80_only(staging: Any) -> None:
    assert ingress(staging, "alb") == [(80, 80, "0.0.0.0/0")]
    assert egress(staging, "alb") == [(3000, 3003, group("ecs"))]


def test_tasks_are_reached_by_the_load_balancer_and_by_each_other(staging: Any) -> None:
    assert ingress(staging, "ecs") == [(3000, 3003, group("alb")), (3000, 3003, group("ecs"))]


def test_tasks_have_only_the_egress_that_they_need(staging: Any) -> None:
    assert egress(staging, "ecs") == [
        (5432, 5432, group("rds")),
        (6379, 6379, group("redis")),
        (443, 443, "0.0.0.0/0"),
        (3000, 3003, group("ecs")),
    ]


@pytest.mark.parametrize(("name", "port"), [("rds", 5432), ("redis", 6379)])
def test_data_stores_accept_tasks_only_and_have_no_egress(staging: Any, name: str, port: int) -> None:
    assert ingress(staging, name) == [(port, port, group("ecs"))]
    assert egress(staging, name) == []
    rules = staging.one("network", "EC2::SecurityGroup", GroupName=f"alva-staging-{name}")["SecurityGroupEgress"]
    assert rules, "without any rule AWS adds one that allows all traffic"


def test_port_443_is_open_only_with_a_certificate(synthesise: Callable[..., Any]) -> None:
    arn = "arn:aws:acm:us-east-1:123456789012:certificate/0a1b2c3d-0000-0000-0000-000000000000"
    secure = synthesise(STAGING.with_settings(load_balancer__certificate_arn=arn))
    assert [rule[0] for rule in ingress(secure, "alb")] == [80, 443]


def test_outputs_have_the_values_that_a_one_off_task_needs(staging: Any) -> None:
    outputs = staging.template("network")["Outputs"]
    assert outputs["PrivateSubnetIds"]["Value"] == {
        "Fn::Join": [",", [{"Ref": "PrivateSubnetA"}, {"Ref": "PrivateSubnetB"}]]
    }
    assert outputs["EcsSecurityGroupId"]["Value"] == group("ecs")


def test_nat_instance_replaces_the_gateway(synthesise: Callable[..., Any]) -> None:
    cheap = synthesise(STAGING.with_settings(network__nat="instance"))
    assert cheap.resources("network", "EC2::NatGateway") == []
    instance = cheap.one("network", "EC2::Instance")
    assert instance["SourceDestCheck"] is False, "a NAT instance forwards packets with other destinations"
    assert instance["SubnetId"] == {"Ref": "PublicSubnetA"}
    routes = [each.properties for each in cheap.resources("network", "EC2::Route")]
    assert sum("InstanceId" in route for route in routes) == 2
    template = cheap.one("network", "EC2::LaunchTemplate")["LaunchTemplateData"]
    assert template["InstanceType"] == "t4g.nano"
    assert template["MetadataOptions"]["HttpTokens"] == "required"


def test_flow_logs_are_a_setting(staging: Any, synthesise: Callable[..., Any]) -> None:
    assert staging.resources("network", "EC2::FlowLog") == []
    watched = synthesise(STAGING.with_settings(network__flow_logs=True))
    assert watched.one("network", "EC2::FlowLog")["TrafficType"] == "ALL"
    assert watched.one("network", "Logs::LogGroup")["RetentionInDays"] == 30


@pytest.mark.parametrize(
    ("ports", "ranges"),
    [
        ([3000, 3001, 3002, 3003], [(3000, 3003)]),
        ([3003, 3000], [(3000, 3000), (3003, 3003)]),
        ([3000, 3001, 3010, 3011, 3001], [(3000, 3001), (3010, 3011)]),
        ([], []),
    ],
)
def test_port_ranges_contain_the_services_ports_only(ports: list[int], ranges: list[tuple[int, int]]) -> None:
    start_cdk()
    from lib.stacks.network_stack import contiguous_ranges

    assert contiguous_ranges(ports) == ranges


STUB = """#!/bin/bash
echo "$(basename "$0") $*" >> "$LOG"
count=$(grep -c "^$(basename "$0") " "$LOG")
[ "$(basename "$0")" != dnf ] || [ "$count" -gt "${DNF_FAILURES:-0}" ]
"""
"""A command that records its calls. `dnf` fails as often as the test sets."""


def run_user_data(synthesis: Any, folder: Path, **variables: str) -> list[str]:
    """Run the NAT instance's user data with replaced programs, and return its commands in order."""
    data = synthesis.one("network", "EC2::LaunchTemplate")["LaunchTemplateData"]["UserData"]["Fn::Base64"]
    script = "".join(part if isinstance(part, str) else part["Ref"] for part in data["Fn::Join"][1])
    (folder / "etc" / "sysctl.d").mkdir(parents=True)
    (folder / "etc" / "sysconfig").mkdir()
    (folder / "bin").mkdir()
    for name in ("dd", "chmod", "mkswap", "swapon", "sysctl", "dnf", "systemctl", "nft", "cfn-signal"):
        (folder / "bin" / name).write_text(STUB)
        (folder / "bin" / name).chmod(0o755)
    for place, here in (("/etc/", folder / "etc"), ("/opt/aws/bin/", folder / "bin"), ("/swapfile", folder / "swap")):
        script = script.replace(place, f"{here}/" if place.endswith("/") else str(here))
    log = folder / "log"
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    environment = {"PATH": path, "LOG": str(log), "PAUSE": "0", **variables}
    subprocess.run(["bash", "-c", script], env=environment, check=True, timeout=60)
    return log.read_text().splitlines()


def test_nat_instance_forwards_before_it_downloads_and_signals_cloudformation(
    synthesise: Callable[..., Any], tmp_path: Path
) -> None:
    cheap = synthesise(STAGING.with_settings(network__nat="instance"))
    ran = run_user_data(cheap, tmp_path, DNF_FAILURES="2")
    names = [line.split()[0] for line in ran]
    assert names == [
        *("sysctl", "dd", "chmod", "mkswap", "swapon", "dnf", "dnf", "dnf", "systemctl", "nft", "cfn-signal")
    ], "forwarding, memory to download with, downloads until they succeed"
    (instance,) = cheap.resources("network", "EC2::Instance")
    assert f"--exit-code 0 --stack AWS::StackName --resource {instance.logical_id} --region" in ran[-1]
    assert instance.definition["CreationPolicy"] == {"ResourceSignal": {"Count": 1, "Timeout": "PT15M"}}


def test_nat_instance_that_cannot_forward_fails_its_stack(synthesise: Callable[..., Any], tmp_path: Path) -> None:
    cheap = synthesise(STAGING.with_settings(network__nat="instance"))
    ran = run_user_data(cheap, tmp_path, DNF_FAILURES="99")
    assert "systemctl" not in " ".join(ran)
    assert "cfn-signal --exit-code 1 " in ran[-1]
