"""The resource types AWS::ElasticLoadBalancingV2::*, provisioned through the elbv2 API, as on AWS.

So a template meets the same checks and the same error messages as any client of the API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ministack.services import alb
from ministack.services.cloudformation.provisioners import _physical_name

from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, register
from alva.region.elb import api
from alva.region.elb.attributes import LOAD_BALANCER_DEFAULTS, TARGET_GROUP_DEFAULTS

_LOAD_BALANCER = {"Name", "Scheme", "Type", "IpAddressType", "Subnets", "SecurityGroups", "Tags"}
_TARGET_GROUP = {
    "Name",
    "Port",
    "Protocol",
    "ProtocolVersion",
    "TargetType",
    "VpcId",
    "IpAddressType",
    "HealthCheckEnabled",
    "HealthCheckProtocol",
    "HealthCheckPort",
    "HealthCheckPath",
    "HealthCheckIntervalSeconds",
    "HealthCheckTimeoutSeconds",
    "HealthyThresholdCount",
    "UnhealthyThresholdCount",
    "Matcher",
    "Tags",
}
_HEALTH_CHECK_DEFAULTS = {
    "HealthCheckProtocol": "HTTP",
    "HealthCheckPort": "traffic-port",
    "HealthCheckPath": "/",
    "HealthCheckIntervalSeconds": 30,
    "HealthCheckTimeoutSeconds": 5,
    "HealthyThresholdCount": 5,
    "UnhealthyThresholdCount": 2,
    "Matcher": {"HttpCode": "200"},
}
_LISTENER = {
    "LoadBalancerArn",
    "Port",
    "Protocol",
    "DefaultActions",
    "Certificates",
    "SslPolicy",
    "AlpnPolicy",
    "MutualAuthentication",
    "Tags",
}
_RULE = {"ListenerArn", "Priority", "Conditions", "Actions", "Transforms", "Tags"}


def install() -> None:
    """Register the four types."""
    prefix = "AWS::ElasticLoadBalancingV2::"
    register(
        f"{prefix}LoadBalancer",
        Handlers(
            create=_create_load_balancer,
            update=_update_load_balancer,
            delete=_deleter("DeleteLoadBalancer", "LoadBalancerArn", lambda: alb._lbs),
            replacing_properties=("Name", "Scheme", "Type"),
        ),
    )
    register(
        f"{prefix}TargetGroup",
        Handlers(
            create=_create_target_group,
            update=_update_target_group,
            delete=_deleter("DeleteTargetGroup", "TargetGroupArn", lambda: alb._tgs),
            replacing_properties=(
                "Name",
                "Port",
                "Protocol",
                "ProtocolVersion",
                "TargetType",
                "VpcId",
                "IpAddressType",
            ),
        ),
    )
    register(
        f"{prefix}Listener",
        Handlers(
            create=_create_listener,
            update=_update_listener,
            delete=_deleter("DeleteListener", "ListenerArn", lambda: alb._listeners),
            replacing_properties=("LoadBalancerArn",),
        ),
    )
    register(
        f"{prefix}ListenerRule",
        Handlers(
            create=_create_rule,
            update=_update_rule,
            delete=_deleter("DeleteRule", "RuleArn", lambda: alb._rules),
            replacing_properties=("ListenerArn",),
        ),
    )


def _create_load_balancer(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
    _refuse_unknown(properties, _LOAD_BALANCER | {"LoadBalancerAttributes"})
    name = properties.get("Name") or _physical_name(stack_name, logical_id, max_len=32)
    api.call("CreateLoadBalancer", _only(properties, _LOAD_BALANCER) | {"Name": name})
    arn = next(record["LoadBalancerArn"] for record in alb._lbs.values() if record["LoadBalancerName"] == name)
    _or_delete(
        lambda: _set_attributes("LoadBalancer", arn, {}, properties.get("LoadBalancerAttributes")),
        lambda: api.call("DeleteLoadBalancer", {"LoadBalancerArn": arn}),
    )
    return arn, _load_balancer_attributes(arn)


def _update_load_balancer(arn: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
    del stack_name
    _refuse_unknown(new, _LOAD_BALANCER | {"LoadBalancerAttributes"})
    if old.get("Subnets") != new.get("Subnets"):
        api.call("SetSubnets", {"LoadBalancerArn": arn, "Subnets": new.get("Subnets")})
    if old.get("SecurityGroups") != new.get("SecurityGroups"):
        api.call("SetSecurityGroups", {"LoadBalancerArn": arn, "SecurityGroups": new.get("SecurityGroups")})
    defaults = _dropped(old, new, "LoadBalancerAttributes", LOAD_BALANCER_DEFAULTS)
    _set_attributes("LoadBalancer", arn, defaults, new.get("LoadBalancerAttributes"))
    _retag(arn, old, new)
    return arn, _load_balancer_attributes(arn)


def _load_balancer_attributes(arn: str) -> dict[str, Any]:
    record = alb._lbs[arn]
    return {
        "LoadBalancerArn": arn,
        "LoadBalancerName": record["LoadBalancerName"],
        "LoadBalancerFullName": arn.partition(":loadbalancer/")[2],
        "DNSName": record["DNSName"],
        "CanonicalHostedZoneID": api.HOSTED_ZONE_ID,
        "SecurityGroups": record["SecurityGroups"],
    }


def _create_target_group(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
    _refuse_unknown(properties, _TARGET_GROUP | {"TargetGroupAttributes", "Targets"})
    name = properties.get("Name") or _physical_name(stack_name, logical_id, max_len=32)
    api.call("CreateTargetGroup", _only(properties, _TARGET_GROUP) | {"Name": name})
    arn = next(record["TargetGroupArn"] for record in alb._tgs.values() if record["TargetGroupName"] == name)

    def complete() -> None:
        _set_attributes("TargetGroup", arn, {}, properties.get("TargetGroupAttributes"))
        if properties.get("Targets"):
            api.call("RegisterTargets", {"TargetGroupArn": arn, "Targets": properties["Targets"]})

    _or_delete(complete, lambda: api.call("DeleteTargetGroup", {"TargetGroupArn": arn}))
    return arn, _target_group_attributes(arn)


def _update_target_group(arn: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
    del stack_name
    _refuse_unknown(new, _TARGET_GROUP | {"TargetGroupAttributes", "Targets"})
    health_check = _HEALTH_CHECK_DEFAULTS | _only(new, set(_HEALTH_CHECK_DEFAULTS) | {"HealthCheckEnabled"})
    api.call("ModifyTargetGroup", health_check | {"TargetGroupArn": arn})
    defaults = _dropped(old, new, "TargetGroupAttributes", TARGET_GROUP_DEFAULTS)
    _set_attributes("TargetGroup", arn, defaults, new.get("TargetGroupAttributes"))
    before, after = old.get("Targets") or [], new.get("Targets") or []
    for action, targets in (
        ("DeregisterTargets", [target for target in before if target not in after]),
        ("RegisterTargets", [target for target in after if target not in before]),
    ):
        if targets:
            api.call(action, {"TargetGroupArn": arn, "Targets": targets})
    _retag(arn, old, new)
    return arn, _target_group_attributes(arn)


def _target_group_attributes(arn: str) -> dict[str, Any]:
    record = alb._tgs[arn]
    return {
        "TargetGroupArn": arn,
        "TargetGroupName": record["TargetGroupName"],
        "TargetGroupFullName": arn.rpartition(":")[2],
        "LoadBalancerArns": record["LoadBalancerArns"],
    }


def _create_listener(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
    del logical_id, stack_name
    _refuse_unknown(properties, _LISTENER | {"ListenerAttributes"})
    before = set(alb._listeners)
    api.call("CreateListener", _only(properties, _LISTENER))
    arn = next(iter(set(alb._listeners) - before))
    _or_delete(
        lambda: _set_attributes("Listener", arn, {}, properties.get("ListenerAttributes")),
        lambda: api.call("DeleteListener", {"ListenerArn": arn}),
    )
    return arn, {"ListenerArn": arn}


def _update_listener(arn: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
    del stack_name
    _refuse_unknown(new, _LISTENER | {"ListenerAttributes"})
    api.call("ModifyListener", _only(new, _LISTENER - {"LoadBalancerArn", "Tags"}) | {"ListenerArn": arn})
    dropped = _dropped(old, new, "ListenerAttributes", {"routing.http.response.server.enabled": "true"})
    _set_attributes("Listener", arn, dropped, new.get("ListenerAttributes"))
    _retag(arn, old, new)
    return arn, {"ListenerArn": arn}


def _create_rule(logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
    del logical_id, stack_name
    _refuse_unknown(properties, _RULE)
    before = set(alb._rules)
    api.call("CreateRule", _only(properties, _RULE))
    arn = next(iter(set(alb._rules) - before))
    return arn, {"RuleArn": arn, "IsDefault": False}


def _update_rule(arn: str, old: Properties, new: Properties, stack_name: str) -> Provisioned:
    del stack_name
    _refuse_unknown(new, _RULE)
    transforms = {"Transforms": new["Transforms"]} if new.get("Transforms") else {"ResetTransforms": True}
    api.call("ModifyRule", _only(new, {"Conditions", "Actions"}) | {"RuleArn": arn} | transforms)
    if str(old.get("Priority")) != str(new.get("Priority")):
        api.call("SetRulePriorities", {"RulePriorities": [{"RuleArn": arn, "Priority": new.get("Priority")}]})
    _retag(arn, old, new)
    return arn, {"RuleArn": arn, "IsDefault": False}


def _deleter(
    action: str, parameter: str, records: Callable[[], Mapping[str, Any]]
) -> Callable[[str, Properties], None]:
    def delete(physical_id: str, properties: Properties) -> None:
        del properties
        if physical_id in records():
            api.call(action, {parameter: physical_id})

    return delete


def _set_attributes(kind: str, arn: str, defaults: Mapping[str, str], declared: list[dict[str, Any]] | None) -> None:
    values = dict(defaults) | {item["Key"]: item.get("Value", "") for item in declared or ()}
    if values:
        attributes = [{"Key": key, "Value": value} for key, value in values.items()]
        api.call(f"Modify{kind}Attributes", {f"{kind}Arn": arn, "Attributes": attributes})


def _dropped(old: Properties, new: Properties, name: str, defaults: Mapping[str, str]) -> dict[str, str]:
    """The defaults of attributes that a template no longer sets: a rollback must find its way back.

    AWS keeps such values ("attributes that you do not modify retain their current values"); the previous template then
    sets them all again, but an attribute that only the failed one had would stay. Here it does not.
    """
    kept = {item["Key"] for item in new.get(name) or ()}
    gone = [item["Key"] for item in old.get(name) or () if item["Key"] not in kept]
    return {key: defaults[key] for key in gone if key in defaults}


def _retag(arn: str, old: Properties, new: Properties) -> None:
    before = {tag["Key"]: tag["Value"] for tag in old.get("Tags") or ()}
    after = {tag["Key"]: tag["Value"] for tag in new.get("Tags") or ()}
    if removed := [key for key in before if key not in after]:
        api.call("RemoveTags", {"ResourceArns": [arn], "TagKeys": removed})
    if added := [{"Key": key, "Value": value} for key, value in after.items() if before.get(key) != value]:
        api.call("AddTags", {"ResourceArns": [arn], "Tags": added})


def _only(properties: Properties, names: set[str]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if key in names}


def _refuse_unknown(properties: Properties, known: set[str]) -> None:
    for name in properties:
        if name not in known:
            raise ValueError(f"Encountered unsupported property {name}")


def _or_delete(work: Callable[[], None], delete: Callable[[], None]) -> None:
    """Do the second half of a creation; when it fails, take the first half back."""
    try:
        work()
    except Exception:
        delete()
        raise
