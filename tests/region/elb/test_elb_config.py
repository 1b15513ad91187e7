"""Envoy's configuration from records and health, as values."""

from __future__ import annotations

from pathlib import Path

import pytest

from alva.region.certificates import Certificate
from alva.region.elb.attributes import LOAD_BALANCER_DEFAULTS, TARGET_GROUP_DEFAULTS
from alva.region.elb.envoy_config import Endpoint, TlsProxy, configuration, endpoint_resource
from alva.region.elb.envoy_parts import Edge, Files
from alva.region.elb.records import (
    Condition,
    FixedResponse,
    Forward,
    HealthCheck,
    Listener,
    LoadBalancer,
    Records,
    Rule,
    TargetGroup,
    WeightedTargetGroup,
)
from alva.region.elb.target_health import State

FILES = Files(folder=Path("/run/envoy"))
CERTIFICATE = Certificate(Path("/c.pem"), Path("/c.key"))
ARN = "arn:aws:elasticloadbalancing:us-east-1:000000000000"
GROUP = TargetGroup(
    arn=f"{ARN}:targetgroup/api/a1",
    port=3001,
    protocol="HTTP",
    health_check=HealthCheck(
        protocol="HTTP",
        port="traffic-port",
        path="/health",
        interval_seconds=5,
        timeout_seconds=2,
        healthy_threshold=2,
        unhealthy_threshold=2,
        matcher="200",
    ),
    attributes=TARGET_GROUP_DEFAULTS,
)
UNUSED = TargetGroup(**(GROUP.__dict__ | {"arn": f"{ARN}:targetgroup/unused/b2"}))


def records(*rules, **attributes):
    default = Rule(arn=f"{ARN}:listener-rule/app/x/1/l1/r0", priority=None, action=FixedResponse(status_code=404))
    listener = Listener(arn=f"{ARN}:listener/app/x/1/l1", port=80, protocol="HTTP", rules=(*rules, default))
    load_balancer = LoadBalancer(
        arn=f"{ARN}:loadbalancer/app/x/1",
        dns_name="127.0.0.1:8080",
        listeners=(listener,),
        attributes=LOAD_BALANCER_DEFAULTS | attributes,
    )
    return Records((load_balancer,), {GROUP.arn: GROUP, UNUSED.arn: UNUSED})


API_RULE = Rule(
    arn=f"{ARN}:listener-rule/app/x/1/l1/r1",
    priority=10,
    conditions=(Condition(field="path-pattern", values=("/api", "/api/*")),),
    action=Forward((WeightedTargetGroup(GROUP.arn, 1),)),
)


def configured(*rules, endpoints=(), tls_proxies=(), **attributes):
    return configuration(
        records(*rules, **attributes),
        {GROUP.arn: endpoints},
        tls_proxies,
        {},
        edge=Edge(port=8080, tls_port=8443),
        files=FILES,
        access_log=Path("/logs/access.log"),
    )


def statuses(*states):
    targets = [Endpoint(f"127.20.1.{number}", 80, state) for number, state in enumerate(states, start=4)]
    resource = endpoint_resource(GROUP, targets)
    return {
        target["endpoint"]["address"]["socket_address"]["address"].rpartition(".")[2]: target["health_status"]
        for target in resource["endpoints"][0]["lb_endpoints"]
    }


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ((State.HEALTHY, State.UNHEALTHY, State.INITIAL, State.DRAINING), {"4": "HEALTHY", "7": "DRAINING"}),
        ((State.UNHEALTHY, State.UNHEALTHY, State.INITIAL), {"4": "HEALTHY", "5": "HEALTHY"}),
        ((State.INITIAL, State.INITIAL), {}),
        ((State.UNHEALTHY, State.DRAINING), {"4": "HEALTHY", "5": "DRAINING"}),
        ((), {}),
    ],
)
def test_health_decides_which_targets_envoy_may_use(states, expected):
    assert statuses(*states) == expected


def test_a_change_of_health_touches_the_endpoints_file_alone():
    before = configured(API_RULE, endpoints=[Endpoint("127.20.1.4", 80, State.INITIAL)])
    after = configured(API_RULE, endpoints=[Endpoint("127.20.1.4", 80, State.HEALTHY)])
    assert {path for path in after if before[path] != after[path]} == {FILES.endpoints("a1")}


def test_a_change_of_rules_touches_no_listener():
    before, after = configured(API_RULE), configured()
    assert before[FILES.listeners] == after[FILES.listeners]
    assert before[FILES.routes("l1")] != after[FILES.routes("l1")]


def test_files_are_written_before_those_that_name_them():
    order = list(configured(API_RULE))
    assert order == [FILES.endpoints("a1"), FILES.clusters, FILES.routes("l1"), FILES.listeners]


def test_a_target_group_without_a_rule_is_no_cluster():
    names = [cluster["name"] for cluster in configured(API_RULE)[FILES.clusters]]
    assert names == ["targetgroup/api/a1"]


def test_envoy_neither_panics_nor_limits_connections():
    cluster = configured(API_RULE)[FILES.clusters][0]
    assert cluster["common_lb_config"] == {"healthy_panic_threshold": {"value": 0}}
    assert cluster["circuit_breakers"]["thresholds"][0]["max_requests"] >= 1_000_000


def test_the_idle_timeout_reaches_clients_requests_and_targets():
    files = configured(API_RULE, **{"idle_timeout.timeout_seconds": "45"})
    manager = files[FILES.listeners][0]["filter_chains"][0]["filters"][0]["typed_config"]
    route = files[FILES.routes("l1")][0]["virtual_hosts"][0]["routes"][0]["route"]
    options = files[FILES.clusters][0]["typed_extension_protocol_options"]
    protocol = options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]
    assert manager["common_http_protocol_options"]["idle_timeout"] == "45s"
    assert (route["timeout"], route["idle_timeout"]) == ("0s", "45s")
    assert protocol["common_http_protocol_options"]["idle_timeout"] == "45s"


def test_the_listener_is_on_the_edge_and_not_on_port_80():
    address = configured()[FILES.listeners][0]["address"]["socket_address"]
    assert address == {"address": "127.0.0.1", "port_value": 8080}


def test_a_tls_proxy_is_a_listener_and_a_cluster_of_its_own():
    proxy = TlsProxy(
        name="cache",
        address="127.20.11.5",
        port=6379,
        upstream_address="127.0.0.1",
        upstream_port=7000,
        certificate=CERTIFICATE,
    )
    files = configured(tls_proxies=[proxy])
    assert [listener["name"] for listener in files[FILES.listeners]] == ["l1", "tls/cache"]
    assert [cluster["name"] for cluster in files[FILES.clusters]] == ["tls/cache"]
