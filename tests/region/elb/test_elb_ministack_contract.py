"""What the load balancer's corrections take for granted of MiniStack: a new version that changes it fails here."""

from __future__ import annotations

import inspect

import pytest
from ministack.services import acm, alb, cloudwatch, ec2

from alva.region.elb import api, checks, query

STORES = (
    "_lbs",
    "_tgs",
    "_listeners",
    "_rules",
    "_targets",
    "_lb_attrs",
    "_tg_attrs",
    "_listener_attrs",
)


@pytest.fixture
def original():
    """MiniStack's own call, with its own functions."""
    corrected = dict(alb._ACTION_MAP)
    alb.reset()
    alb._ACTION_MAP.update(api._original)
    yield lambda action, **request: alb._ACTION_MAP[action](query.flatten(request))
    alb.reset()
    alb._ACTION_MAP.update(corrected)


def test_the_records_are_where_they_are_read_and_are_saved_with_the_state():
    assert set(STORES) <= set(alb.get_state())
    assert callable(acm._certificates.get)
    assert callable(ec2._subnets.get)
    assert callable(cloudwatch._metrics.items)
    assert list(inspect.signature(cloudwatch._store_datum).parameters) == [
        "namespace",
        "name",
        "dims",
        "ts",
        "unit",
        "value",
        "values",
        "counts",
        "stat_values",
    ]


def test_every_corrected_call_is_one_of_ministacks_and_takes_parameters_alone():
    replaced = {*checks.CHECKS, *api.REPLACED_CALLS}
    assert replaced <= set(alb._ACTION_MAP)
    assert {len(inspect.signature(alb._ACTION_MAP[name]).parameters) for name in replaced} == {1}


@pytest.mark.parametrize(
    ("handler", "parser"),
    [
        ("_create_rule", "_parse_actions"),
        ("_create_rule", "_parse_conditions"),
        ("_create_listener", "_parse_actions"),
        ("_modify_rule", "_parse_conditions"),
        ("_rule_xml", "_action_xml"),
        ("_rule_xml", "_condition_xml"),
        ("_listener_xml", "_action_xml"),
        ("_describe_lbs", "_lb_xml"),
    ],
)
def test_ministack_calls_the_functions_that_are_replaced_by_their_global_names(handler, parser):
    assert f"{parser}(" in inspect.getsource(getattr(alb, handler))


def test_ministack_still_marks_a_target_healthy_that_nobody_asked(original):
    original("CreateTargetGroup", Name="x", Port=80, Protocol="HTTP", TargetType="ip")
    arn = next(iter(alb._tgs))
    original("RegisterTargets", TargetGroupArn=arn, Targets=[{"Id": "192.0.2.1", "Port": 1}])
    assert b"<State>healthy</State>" in original("DescribeTargetHealth", TargetGroupArn=arn)[2]


def test_ministack_still_takes_a_priority_twice_and_leaves_a_deleted_balancers_listeners(original):
    original("CreateLoadBalancer", Name="x", Subnets=["subnet-1"])
    load_balancer = next(iter(alb._lbs))
    action = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "200"}}
    original("CreateListener", LoadBalancerArn=load_balancer, Port=80, Protocol="HTTP", DefaultActions=[action])
    listener = next(iter(alb._listeners))
    condition = {"Field": "path-pattern", "Values": ["/x"]}
    for _ in range(2):
        answer = original("CreateRule", ListenerArn=listener, Priority=1, Conditions=[condition], Actions=[action])
        assert answer[0] == 200
    original("DeleteLoadBalancer", LoadBalancerArn=load_balancer)
    assert listener in alb._listeners
