"""The load balancers' state: after a restart, from an earlier version of alva, and in other accounts and regions."""

from __future__ import annotations

import asyncio
import copy
import json

import pytest
from ministack.core.responses import request_scope

from alva.region.elb.records import LoadBalancerEvent, LoadBalancerState, state_after
from alva.region.elb.store import Store

FIXED = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}


def run(make_rig, test):
    async def body():
        async with make_rig() as rig:
            await test(rig)

    asyncio.run(body())


async def filled(rig):
    """One of each resource, with every feature of a rule."""
    group, other = await rig.target_group(), await rig.target_group()
    balancer = await rig.load_balancer(**{"idle_timeout.timeout_seconds": "30"})
    weighted = [{"TargetGroupArn": group, "Weight": 9}, {"TargetGroupArn": other, "Weight": 1}]
    listener = await rig.listener(balancer, FIXED)
    conditions = [
        {"Field": "path-pattern", "Values": ["/a"]},
        {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-A", "Values": ["b"]}},
        {"Field": "query-string", "QueryStringConfig": {"Values": [{"Value": "v"}, {"Key": "k", "Value": "w"}]}},
    ]
    rewrite = {"Type": "url-rewrite", "UrlRewriteConfig": {"Rewrites": [{"Regex": "^/a", "Replace": "/b"}]}}
    forward = {"Type": "forward", "ForwardConfig": {"TargetGroups": weighted}}
    await rig.rule(listener, 1, conditions, forward, Transforms=[rewrite], Tags=[{"Key": "a", "Value": "b"}])
    redirect = {"Type": "redirect", "RedirectConfig": {"StatusCode": "HTTP_302", "Port": "443", "Query": ""}}
    await rig.rule(listener, 2, [{"Field": "host-header", "Values": ["*.example.org"]}], redirect)
    rig.load_balancers.register(group, "127.0.0.1", 9)
    return group


def test_saved_state_is_restored_unchanged(make_rig):
    async def test(rig):
        await filled(rig)
        restored = Store("000000000000", "us-east-1")
        restored.restore(json.loads(json.dumps(rig.store.as_json())))
        assert restored == rig.store

    run(make_rig, test)


EARLIER = {
    "_lbs": {
        "arn:aws:elasticloadbalancing:us-east-1:000000000000:loadbalancer/app/alva/1": {
            "LoadBalancerArn": "arn:aws:elasticloadbalancing:us-east-1:000000000000:loadbalancer/app/alva/1",
            "LoadBalancerName": "alva",
            "DNSName": "127.0.0.1:8080",
            "Scheme": "internet-facing",
            "VpcId": "vpc-1",
            "State": "active",
            "Type": "application",
            "Subnets": ["subnet-1", "subnet-2"],
            "SecurityGroups": ["sg-1"],
            "IpAddressType": "ipv4",
            "CreatedTime": "2026-01-02T03:04:05.000Z",
        }
    },
    "_tgs": {
        "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/api/2": {
            "TargetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/api/2",
            "TargetGroupName": "api",
            "Protocol": "HTTP",
            "Port": 3001,
            "VpcId": "vpc-1",
            "HealthCheckProtocol": "HTTP",
            "HealthCheckPort": "traffic-port",
            "HealthCheckEnabled": True,
            "HealthCheckPath": "/health",
            "HealthCheckIntervalSeconds": 5,
            "HealthCheckTimeoutSeconds": 3,
            "HealthyThresholdCount": 2,
            "UnhealthyThresholdCount": 2,
            "Matcher": {"HttpCode": "200"},
            "LoadBalancerArns": [],
            "TargetType": "ip",
        }
    },
    "_listeners": {
        "arn:aws:elasticloadbalancing:us-east-1:000000000000:listener/app/alva/1/3": {
            "ListenerArn": "arn:aws:elasticloadbalancing:us-east-1:000000000000:listener/app/alva/1/3",
            "LoadBalancerArn": "arn:aws:elasticloadbalancing:us-east-1:000000000000:loadbalancer/app/alva/1",
            "Port": 443,
            "Protocol": "HTTPS",
            "DefaultActions": [],
            "Certificates": ["arn:aws:acm:us-east-1:000000000000:certificate/x"],
            "SslPolicy": "ELBSecurityPolicy-2016-08",
        }
    },
    "_rules": {
        "default": {
            "RuleArn": "arn:aws:elasticloadbalancing:us-east-1:000000000000:listener-rule/app/alva/1/3/4",
            "ListenerArn": "arn:aws:elasticloadbalancing:us-east-1:000000000000:listener/app/alva/1/3",
            "Priority": "default",
            "Conditions": [],
            "Actions": [{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404"}}],
            "IsDefault": True,
        },
        "five": {
            "RuleArn": "arn:aws:elasticloadbalancing:us-east-1:000000000000:listener-rule/app/alva/1/3/5",
            "ListenerArn": "arn:aws:elasticloadbalancing:us-east-1:000000000000:listener/app/alva/1/3",
            "Priority": "5",
            "Conditions": [{"Field": "path-pattern", "PathPatternConfig": {"Values": ["/api"]}}],
            "Actions": [
                {
                    "Type": "forward",
                    "ForwardConfig": {
                        "TargetGroups": [
                            {
                                "TargetGroupArn": (
                                    "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/api/2"
                                ),
                                "Weight": "1",
                            }
                        ]
                    },
                }
            ],
            "IsDefault": False,
            "Transforms": [],
        },
    },
    "_targets": {
        "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/api/2": [{"Id": "10.0.1.5", "Port": "3001"}]
    },
    "_tags": {},
    "_lb_attrs": {},
    "_tg_attrs": {
        "arn:aws:elasticloadbalancing:us-east-1:000000000000:targetgroup/api/2": [
            {"Key": "deregistration_delay.timeout_seconds", "Value": "15"}
        ]
    },
    "_listener_attrs": {},
}


def test_state_of_an_earlier_version_of_alva_is_restored():
    store = Store("000000000000", "us-east-1")
    store.restore(copy.deepcopy(EARLIER))
    (balancer,), (group,) = store.load_balancers.values(), store.target_groups.values()
    (listener,) = balancer.listeners
    assert [rule.priority for rule in listener.rules] == [5, None]
    assert store.users_of(group.arn) == [balancer.arn]
    assert (group.health_check.path, group.deregistration_delay_seconds) == ("/health", 15)
    assert [(target.address, target.port) for target in store.targets[group.arn]] == [("10.0.1.5", 3001)]
    again = Store("000000000000", "us-east-1")
    again.restore(store.as_json())
    assert again == store


@pytest.mark.parametrize(
    ("state", "event", "following"),
    [
        ("provisioning", LoadBalancerEvent.CONFIGURED, "active"),
        ("provisioning", LoadBalancerEvent.NO_ADDRESS, "failed"),
        ("failed", LoadBalancerEvent.CONFIGURED, "active"),
        ("active", LoadBalancerEvent.NO_ADDRESS, "active"),
    ],
)
def test_a_load_balancer_passes_through_its_states(state, event, following):
    assert state_after(LoadBalancerState(state), event) == following


def test_a_load_balancer_becomes_active_once_the_data_plane_serves_it(make_rig):
    async def test(rig):
        answer = await rig.call("CreateLoadBalancer", Name="x", **rig.placement())
        assert answer.findtext(".//State/Code") == "provisioning"
        await rig.until(lambda: next(iter(rig.store.load_balancers.values())).state == "active")

    run(make_rig, test)


@pytest.mark.parametrize("scope", [("000000000000", "eu-west-1"), ("222222222222", "us-east-1")])
def test_a_change_seen_from_another_account_or_region_drops_no_target(make_rig, scope):
    async def test(rig):
        group, target = await rig.serving()
        with request_scope(*scope):
            rig.load_balancers.security_groups_may_have_changed()
            rig.load_balancers.changed()
            rig.load_balancers.remove_tls_proxy("x")
        await rig.until(lambda: not rig.load_balancers._is_update_pending)
        assert rig.state(group, target) == "healthy"
        assert rig.load_balancers.targets(group) == [(target.address, target.port)]
        await rig.until(lambda: rig.state(group, target) == "healthy")

    run(make_rig, test)


def raising_once(function):
    """`function` that raises the first time it is called."""
    calls = []

    def wrapper(*arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("once")
        return function(*arguments, **options)

    wrapper.calls = calls
    return wrapper


def test_health_checks_go_on_after_an_exception(make_rig, monkeypatch):
    async def test(rig):
        group, target = await rig.serving()
        from alva.region.elb import checker

        broken = raising_once(checker.check_target)
        monkeypatch.setattr(checker, "check_target", broken)
        await rig.until(lambda: len(broken.calls) > 0)
        await target.stop()
        await rig.until_state(group, target, "unhealthy")

    run(make_rig, test)


def test_draining_ends_after_an_exception(make_rig, monkeypatch):
    async def test(rig):
        group, target = await rig.serving()
        envoy = rig.load_balancers._envoy
        monkeypatch.setattr(envoy, "requests_in_flight", raising_once(envoy.requests_in_flight))
        rig.load_balancers.deregister(group, target.address, target.port)
        await rig.until(lambda: rig.load_balancers.is_drained(group, target.address, target.port))
        await rig.until(lambda: rig.load_balancers.targets(group) == [], 20)

    run(make_rig, test)


def test_metrics_are_published_after_an_exception(make_rig, monkeypatch):
    async def test(rig):
        counts = raising_once(rig.load_balancers._host_counts)
        monkeypatch.setattr(rig.load_balancers._publisher, "_host_counts", counts)
        await rig.until(lambda: len(counts.calls) > 2)

    run(make_rig, test)


def test_envoy_is_restarted_though_the_first_attempt_fails(make_rig, monkeypatch):
    async def test(rig):
        await rig.serving()
        envoy = rig.load_balancers._envoy
        monkeypatch.setattr(envoy, "start", raising_once(envoy.start))
        ended = envoy.process
        ended.kill()
        await rig.until(lambda: envoy.process is not ended, 20)
        await rig.until_served()

    run(make_rig, test)


def test_the_data_plane_follows_the_next_change_after_an_exception(make_rig, monkeypatch):
    async def test(rig):
        group = await rig.target_group()
        broken = raising_once(rig.load_balancers._update)
        monkeypatch.setattr(rig.load_balancers, "_update", broken)
        balancer = await rig.load_balancer()
        await rig.until(lambda: len(broken.calls) > 0, is_accepted=False)
        await rig.listener(balancer, {"Type": "forward", "TargetGroupArn": group})
        await rig.until_served()

    run(make_rig, test)
