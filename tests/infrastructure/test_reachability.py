"""The matrix of allowed connections, computed from the templates."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from lib.config.environments import STAGING

from alva.checks.assembly import Assembly
from alva.checks.reachability import Matrix, node_names, reachability

SERVICES = {"web": "3000", "api": "3001", "auth": "3002", "admin": "3003"}

# All allowed connections. Any other is an error.
EXPECTED: dict[tuple[str, str], tuple[str, ...]] = {
    ("internet", "alb"): ("80",),
    **{("alb", service): (port,) for service, port in SERVICES.items()},
    **{(source, service): (port,) for source in SERVICES for service, port in SERVICES.items() if source != service},
    **{(service, "database"): ("5432",) for service in SERVICES},
    **{(service, "cache"): ("6379",) for service in SERVICES},
    **{(service, "internet"): ("443",) for service in SERVICES},
}


def assembly_of(synthesis: Any) -> Assembly:
    prefix = f"{synthesis.environment.prefix}-"
    names = [stack["name"] for stack in synthesis.manifest["stacks"]]
    return Assembly(synthesis.manifest, {name: synthesis.template(name.removeprefix(prefix)) for name in names})


def after(synthesis: Any, part: str, edit: Callable[[dict[str, Any]], None]) -> Matrix:
    """Return the matrix after `edit` changed one stack's resources."""
    assembly = assembly_of(synthesis)
    templates = copy.deepcopy(dict(assembly.templates))
    edit(templates[f"alva-staging-{part}"]["Resources"])
    return reachability(Assembly(assembly.manifest, templates))


def test_staging_has_exactly_these_connections(staging: Any) -> None:
    assert reachability(assembly_of(staging)) == EXPECTED
    assert node_names(assembly_of(staging)) == ["internet", "alb", *SERVICES, "database", "cache"]


def test_production_has_the_same_connections(production: Any) -> None:
    assert reachability(assembly_of(production)) == EXPECTED


def test_a_certificate_opens_443_and_nothing_else(synthesise: Callable[..., Any]) -> None:
    arn = "arn:aws:acm:us-east-1:123456789012:certificate/0a1b2c3d-0000-0000-0000-000000000000"
    secure = reachability(assembly_of(synthesise(STAGING.with_settings(load_balancer__certificate_arn=arn))))
    # Tasks can connect to any address on 443, which includes this one.
    by_its_public_name = {(service, "alb"): ("443",) for service in SERVICES}
    assert secure == {**EXPECTED, **by_its_public_name, ("internet", "alb"): ("80", "443")}


def test_a_nat_instance_lets_tasks_out_as_the_gateway_does(synthesise: Callable[..., Any]) -> None:
    assert reachability(assembly_of(synthesise(STAGING.with_settings(network__nat="instance")))) == EXPECTED


def test_a_nat_instance_that_admits_no_traffic_cuts_tasks_off(synthesise: Callable[..., Any]) -> None:
    def edit(resources: dict[str, Any]) -> None:
        (group,) = [
            each
            for name, each in resources.items()
            if name.startswith("Nat") and each["Type"] == "AWS::EC2::SecurityGroup"
        ]
        group["Properties"]["SecurityGroupIngress"] = []

    cut = after(synthesise(STAGING.with_settings(network__nat="instance")), "network", edit)
    assert not [pair for pair in cut if pair[1] == "internet"]


def test_without_the_route_tasks_reach_nothing_outside(staging: Any) -> None:
    def edit(resources: dict[str, Any]) -> None:
        del resources["PrivateAInternetRoute"]

    cut = after(staging, "network", edit)
    assert cut == {pair: ports for pair, ports in EXPECTED.items() if pair[1] != "internet"}


def test_without_its_own_rule_services_do_not_reach_each_other(staging: Any) -> None:
    def edit(resources: dict[str, Any]) -> None:
        del resources[next(name for name in resources if name.startswith("EcsFromEcs"))]

    cut = after(staging, "network", edit)
    assert ("web", "api") not in cut
    assert cut["alb", "api"] == ("3001",)


def test_missing_egress_blocks_like_missing_ingress(staging: Any) -> None:
    def edit(resources: dict[str, Any]) -> None:
        rules = resources["EcsSecurityGroup"]["Properties"]["SecurityGroupEgress"]
        resources["EcsSecurityGroup"]["Properties"]["SecurityGroupEgress"] = [
            rule for rule in rules if rule["FromPort"] != 5432
        ]

    assert ("api", "database") not in after(staging, "network", edit)


def test_a_group_without_egress_rules_lets_everything_out_as_aws_does(staging: Any) -> None:
    def edit(resources: dict[str, Any]) -> None:
        del resources["RdsSecurityGroup"]["Properties"]["SecurityGroupEgress"]

    assert after(staging, "network", edit)["database", "internet"] == ("0-65535",)


def test_a_rule_for_the_vpcs_addresses_is_seen(staging: Any) -> None:
    def edit(resources: dict[str, Any]) -> None:
        properties = resources["RdsFromEcs"]["Properties"]
        del properties["SourceSecurityGroupId"]
        properties["CidrIp"] = "10.0.10.0/23"

    opened = after(staging, "network", edit)
    assert opened["api", "database"] == ("5432",)
    assert ("internet", "database") not in opened


def test_a_public_database_shows_only_when_everything_about_it_is_public(staging: Any) -> None:
    def open_group(resources: dict[str, Any]) -> None:
        properties = resources["RdsFromEcs"]["Properties"]
        del properties["SourceSecurityGroupId"]
        properties["CidrIp"] = "0.0.0.0/0"

    assert ("internet", "database") not in after(staging, "network", open_group), "it has no public address"

    assembly = assembly_of(staging)
    templates = copy.deepcopy(dict(assembly.templates))
    open_group(templates["alva-staging-network"]["Resources"])
    database = templates["alva-staging-database"]["Resources"]
    database["Instance"]["Properties"]["PubliclyAccessible"] = True
    database["SubnetGroup"]["Properties"]["SubnetIds"] = templates["alva-staging-alb"]["Resources"]["LoadBalancer"][
        "Properties"
    ]["Subnets"]
    assert reachability(Assembly(assembly.manifest, templates))["internet", "database"] == ("5432",)
