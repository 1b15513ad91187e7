"""The elbv2 API and its CloudFormation types: the load balancer serves what they accept; the rest is refused."""

from __future__ import annotations

import asyncio

import pytest

from alva.region.aws_error import AwsError
from alva.region.elb import reading
from alva.region.elb.cloudformation import HandlerFailed
from alva.region.elb.records import Redirect
from alva.region.elb.refusals import Invalid, NotHonoured
from alva.region.elb.routes import network_regex, query_regex, wildcard_regex


def run(make_rig, test):
    async def body():
        async with make_rig() as rig:
            await test(rig)

    asyncio.run(body())


def path(*patterns):
    return {"Field": "path-pattern", "Values": list(patterns)}


FIXED = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}


def test_wildcards_are_the_only_special_characters_of_a_pattern():
    import re

    assert re.fullmatch(wildcard_regex("/a.b/*?"), "/a.b/x")
    assert not re.fullmatch(wildcard_regex("/a.b/?"), "/axb/x")
    assert re.fullmatch(wildcard_regex(r"100\*", escapes=True), "100*")
    assert not re.fullmatch(wildcard_regex(r"100\*", escapes=True), "1000")


@pytest.mark.parametrize(
    ("block", "inside", "outside"),
    [
        ("10.0.0.0/8", "10.255.3.4", "11.0.0.1"),
        ("192.168.4.0/22", "192.168.7.9", "192.168.8.1"),
        ("203.0.113.7/32", "203.0.113.7", "203.0.113.70"),
        ("0.0.0.0/0", "8.8.8.8", "x"),
    ],
)
def test_a_network_as_a_regular_expression_holds_exactly_its_addresses(block, inside, outside):
    import re

    assert re.fullmatch(network_regex(block), inside)
    assert not re.fullmatch(network_regex(block), outside)


def test_a_query_condition_does_not_reach_into_the_next_parameter():
    import re

    regex = query_regex((("a", "*b"),))
    assert re.fullmatch(regex, "/x?c=d&a=xb&e")
    assert not re.fullmatch(regex, "/x?a=x&c=b")


def test_a_redirect_to_itself_is_refused_as_a_loop():
    with pytest.raises(Invalid, match="loop"):
        reading.action([{"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301"}}])
    assert reading.action(
        [{"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301", "Port": "443"}}]
    ) == Redirect(port="443", status_code=301)


@pytest.mark.parametrize(
    "action",
    [
        {"Type": "authenticate-oidc"},
        {"Type": "forward", "ForwardConfig": {"TargetGroupStickinessConfig": {"Enabled": True}}},
        {"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_301", "Host": "www.#{host}"}},
    ],
)
def test_an_action_that_would_not_be_served_is_refused(action):
    with pytest.raises(NotHonoured, match="local region's load balancer does not honour"):
        reading.action([action])


def test_calls_that_aws_refuses_are_refused_with_its_codes(make_rig):
    async def test(rig):
        load_balancer, group = await rig.load_balancer(), await rig.target_group()
        forward = {"Type": "forward", "TargetGroupArn": group}
        listener = await rig.listener(load_balancer, FIXED)
        await rig.rule(listener, 5, [path("/a")], forward)
        new_rule = {"ListenerArn": listener, "Conditions": [path("/b")], "Actions": [forward]}
        other = await rig.load_balancer()
        new_listener = {"Port": 80, "Protocol": "HTTP", "DefaultActions": [forward]}
        unknown = {"Type": "forward", "TargetGroupArn": group + "x"}
        ill = {"HealthCheckIntervalSeconds": 5, "HealthCheckTimeoutSeconds": 6}
        refused = [
            await rig.error_of("CreateRule", Priority=5, **new_rule),
            await rig.error_of("CreateRule", Priority=6, **(new_rule | {"Actions": [unknown]})),
            await rig.error_of("CreateListener", LoadBalancerArn=load_balancer, **new_listener),
            await rig.error_of("CreateListener", LoadBalancerArn=other, **new_listener),
            await rig.error_of("DeleteTargetGroup", TargetGroupArn=group),
            await rig.error_of("ModifyTargetGroup", TargetGroupArn=group, **ill),
            await rig.error_of("RegisterTargets", TargetGroupArn=group, Targets=[{"Id": "i-0123"}]),
        ]
        assert [code for code, _ in refused] == [
            "PriorityInUse",
            "TargetGroupNotFound",
            "DuplicateListener",
            "TargetGroupAssociationLimit",
            "ResourceInUse",
            "ValidationError",
            "ValidationError",
        ]
        assert refused[0][1] == "Priority '5' is currently in use"

    run(make_rig, test)


def test_unsupported_feature_is_refused_by_name(make_rig):
    async def test(rig):
        load_balancer, group = await rig.load_balancer(), await rig.target_group()
        stickiness = [{"Key": "stickiness.enabled", "Value": "true"}]
        unknown = [{"Key": "routing.http.surprise", "Value": "true"}]
        group_request = {"Name": "x", "Protocol": "HTTP", "Port": 80, "VpcId": rig.vpc}
        listener = {"LoadBalancerArn": load_balancer, "DefaultActions": [FIXED], "Protocol": "HTTP"}
        refused = [
            await rig.error_of("CreateLoadBalancer", Name="n", Type="network", **rig.placement()),
            await rig.error_of("CreateTargetGroup", TargetType="lambda", **group_request),
            await rig.error_of("CreateTargetGroup", TargetType="ip", ProtocolVersion="GRPC", **group_request),
            await rig.error_of("ModifyTargetGroupAttributes", TargetGroupArn=group, Attributes=stickiness),
            await rig.error_of("ModifyLoadBalancerAttributes", LoadBalancerArn=load_balancer, Attributes=unknown),
            await rig.error_of("CreateListener", Port=9000, **listener),
        ]
        assert {code for code, _ in refused} == {"UnsupportedOperation"}
        for (_, message), name in zip(
            refused,
            ("type network", "lambda", "GRPC", "stickiness.enabled=true", "routing.http.surprise", "port 9000"),
            strict=True,
        ):
            assert name in message
        assert not [group for group in rig.store.target_groups.values() if group.name == "x"]

    run(make_rig, test)


def test_a_weighted_forward_and_a_query_condition_are_described_unchanged(make_rig):
    async def test(rig):
        groups = [await rig.target_group(), await rig.target_group()]
        listener = await rig.listener(await rig.load_balancer(), FIXED)
        condition = {"Field": "query-string", "QueryStringConfig": {"Values": [{"Key": "a", "Value": "<b>"}]}}
        weights = [{"TargetGroupArn": group, "Weight": weight} for group, weight in zip(groups, (9, 1), strict=True)]
        rule = await rig.rule(listener, 1, [condition], {"Type": "forward", "ForwardConfig": {"TargetGroups": weights}})
        described = await rig.call("DescribeRules", RuleArns=[rule])
        assert [node.text for node in described.findall(".//ForwardConfig//Weight")] == ["9", "1"]
        assert described.findtext(".//QueryStringConfig//Value") == "<b>"
        for group in groups:
            described = await rig.call("DescribeTargetGroups", TargetGroupArns=[group])
            assert ":loadbalancer/app/lb-" in described.findtext(".//LoadBalancerArns/member")

    run(make_rig, test)


def test_deletion_protection_is_honoured_and_deletion_includes_the_listeners(make_rig):
    async def test(rig):
        arn = await rig.load_balancer(**{"deletion_protection.enabled": "true"})
        group = await rig.target_group()
        await rig.listener(arn, {"Type": "forward", "TargetGroupArn": group})
        code, message = await rig.error_of("DeleteLoadBalancer", LoadBalancerArn=arn)
        assert (code, "deletion protection is enabled" in message) == ("OperationNotPermitted", True)
        off = [{"Key": "deletion_protection.enabled", "Value": "false"}]
        await rig.call("ModifyLoadBalancerAttributes", LoadBalancerArn=arn, Attributes=off)
        await rig.call("DeleteLoadBalancer", LoadBalancerArn=arn)
        assert not list(rig.store.listeners())
        await rig.call("DeleteTargetGroup", TargetGroupArn=group)

    run(make_rig, test)


def of(rig, name):
    return rig.resource_types[f"AWS::ElasticLoadBalancingV2::{name}"]


def test_a_template_gets_the_attributes_of_its_resources(make_rig):
    async def test(rig):
        properties = {
            "Name": "alva-staging",
            "Scheme": "internet-facing",
            "Subnets": rig.subnets[:2],
            "SecurityGroups": [rig.open_group],
            "LoadBalancerAttributes": [{"Key": "idle_timeout.timeout_seconds", "Value": "30"}],
        }
        load_balancer, attributes = await of(rig, "LoadBalancer").create("Alb", properties, "alva-staging-alb")
        assert attributes["DNSName"] == f"127.0.0.1:{rig.config.edge_port}"
        assert attributes["LoadBalancerFullName"] == load_balancer.partition("loadbalancer/")[2]
        assert attributes["CanonicalHostedZoneID"] == "Z35SXDOTRQ7X7K"
        assert rig.store.load_balancer(load_balancer).idle_timeout_seconds == 30
        group, attributes = await of(rig, "TargetGroup").create(
            "Api",
            {
                "Port": 3001,
                "Protocol": "HTTP",
                "TargetType": "ip",
                "VpcId": rig.vpc,
                "HealthCheckPath": "/health",
                "HealthCheckIntervalSeconds": 5,
                "HealthCheckTimeoutSeconds": 3,
                "Matcher": {"HttpCode": "200"},
                "TargetGroupAttributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": "15"}],
            },
            "alva-staging-services",
        )
        assert attributes["TargetGroupFullName"] == group.rpartition(":")[2]
        listener, _ = await of(rig, "Listener").create(
            "Http", {"LoadBalancerArn": load_balancer, "Port": 80, "Protocol": "HTTP", "DefaultActions": [FIXED]}, "s"
        )
        rule_properties = {
            "ListenerArn": listener,
            "Priority": 10,
            "Conditions": [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/api", "/api/*"]}}],
            "Actions": [{"Type": "forward", "TargetGroupArn": group}],
        }
        rule, _ = await of(rig, "ListenerRule").create("Rule", rule_properties, "s")
        assert rig.store.users_of(group) == [load_balancer]
        changed = rule_properties | {"Priority": 20, "Actions": [FIXED]}
        assert (await of(rig, "ListenerRule").update(rule, rule_properties, changed, "s"))[0] == rule
        assert (rig.store.rule(rule)[1].priority, rig.store.users_of(group)) == (20, [])
        for name, arn in (("ListenerRule", rule), ("Listener", listener), ("TargetGroup", group)):
            await of(rig, name).delete(arn, {})
            await of(rig, name).delete(arn, {})
        await of(rig, "LoadBalancer").delete(load_balancer, {})
        assert rig.store.as_json() == {"load_balancers": [], "target_groups": []}

    run(make_rig, test)


def test_a_template_with_an_unknown_property_or_attribute_leaves_nothing_behind(make_rig):
    async def test(rig):
        good = rig.placement()
        with pytest.raises(HandlerFailed, match="At least two subnets in two different Availability Zones"):
            await of(rig, "LoadBalancer").create("Alb", {**good, "Subnets": rig.subnets[:1]}, "stack")
        with pytest.raises(AwsError, match=r"unsupported property Subnet$"):
            await of(rig, "LoadBalancer").create("Alb", good | {"Subnet": "x"}, "s")
        unknown = {"LoadBalancerAttributes": [{"Key": "routing.surprise", "Value": "1"}]}
        with pytest.raises(HandlerFailed, match=r"routing\.surprise"):
            await of(rig, "LoadBalancer").create("Alb", good | unknown, "s")
        assert not rig.store.load_balancers

    run(make_rig, test)


def test_attribute_that_a_template_drops_returns_to_its_default(make_rig):
    async def test(rig):
        base = {"Port": 80, "Protocol": "HTTP", "TargetType": "ip", "VpcId": rig.vpc}
        old = base | {
            "HealthCheckPath": "/health",
            "TargetGroupAttributes": [{"Key": "deregistration_delay.timeout_seconds", "Value": "15"}],
        }
        arn, _ = await of(rig, "TargetGroup").create("Api", old, "s")
        await of(rig, "TargetGroup").update(arn, old, base, "s")
        group = rig.store.target_group(arn)
        assert (group.health_check.path, group.deregistration_delay_seconds) == ("/", 300)

    run(make_rig, test)
