"""What elbv2 calls are checked for before anything is stored: the errors of AWS, and what is not honoured here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ministack.services import alb

from alva.region.elb import query
from alva.region.elb.attributes import (
    LISTENER_ATTRIBUTES,
    LOAD_BALANCER_ATTRIBUTES,
    LOAD_BALANCER_ATTRIBUTES_WITHOUT_EFFECT,
    TARGET_GROUP_ATTRIBUTES,
    TARGET_GROUP_ATTRIBUTES_WITHOUT_EFFECT,
    check_attributes,
)
from alva.region.elb.reading import read_action, read_condition, read_transforms
from alva.region.elb.records import target_groups_of
from alva.region.elb.refusals import Invalid, NotHonoured
from alva.region.elb.target_health import matches

SERVED_PORTS = (80, 443)


def check_load_balancer(params: Mapping[str, Any]) -> None:
    """CreateLoadBalancer."""
    if (kind := query.single(params, "Type", "application")) != "application":
        raise NotHonoured(f"a load balancer of type {kind}")
    if (kind := query.single(params, "IpAddressType", "ipv4")) != "ipv4":
        raise NotHonoured(f"a load balancer with IpAddressType {kind}")


def _check_load_balancer_attributes(params: Mapping[str, Any]) -> None:
    check_attributes(query.attributes(params), LOAD_BALANCER_ATTRIBUTES, LOAD_BALANCER_ATTRIBUTES_WITHOUT_EFFECT)


def _check_target_group_attributes(params: Mapping[str, Any]) -> None:
    check_attributes(query.attributes(params), TARGET_GROUP_ATTRIBUTES, TARGET_GROUP_ATTRIBUTES_WITHOUT_EFFECT)


def _check_listener_attributes(params: Mapping[str, Any]) -> None:
    check_attributes(query.attributes(params), LISTENER_ATTRIBUTES)


def check_target_group(params: Mapping[str, Any]) -> None:
    """CreateTargetGroup."""
    if (kind := query.single(params, "TargetType", "instance")) != "ip":
        raise NotHonoured(f"a target group of target type {kind} (ip is honoured)")
    if (protocol := query.single(params, "Protocol")) not in ("HTTP", "HTTPS"):
        raise NotHonoured(f"a target group with protocol {protocol or '(none)'}")
    if (version := query.single(params, "ProtocolVersion", "HTTP1")) != "HTTP1":
        raise NotHonoured(f"a target group with protocol version {version}")
    if (kind := query.single(params, "IpAddressType", "ipv4")) != "ipv4":
        raise NotHonoured(f"a target group with IpAddressType {kind}")
    _check_health_check(params, {})


def _check_target_group_change(params: Mapping[str, Any]) -> None:
    arn = query.single(params, "TargetGroupArn")
    _check_health_check(params, alb._tgs.get(arn) or {})


def _check_health_check(params: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    """The limits of https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html"""

    def number(name: str, default: int, low: int, high: int, label: str) -> int:
        value = int(query.single(params, name) or current.get(name, default))
        if not low <= value <= high:
            raise Invalid(f"{label} must be between {low} and {high}")
        return value

    if query.single(params, "HealthCheckEnabled", "true") != "true":
        raise Invalid("Health check enabled must be true for target groups with target type 'ip'")
    if (protocol := query.single(params, "HealthCheckProtocol", "HTTP")) not in ("HTTP", "HTTPS"):
        raise Invalid(f"Health check protocol '{protocol}' must be one of 'HTTP, HTTPS'")
    interval = number("HealthCheckIntervalSeconds", 30, 5, 300, "Health check interval")
    timeout = number("HealthCheckTimeoutSeconds", 5, 2, 120, "Health check timeout")
    number("HealthyThresholdCount", 5, 2, 10, "Healthy threshold count")
    number("UnhealthyThresholdCount", 2, 2, 10, "Unhealthy threshold count")
    if timeout >= interval:
        raise Invalid("Health check interval must be greater than the timeout")
    if query.single(params, "Matcher.GrpcCode"):
        raise NotHonoured("a matcher for gRPC codes")
    try:
        matches(query.single(params, "Matcher.HttpCode", "200"), 0)
    except ValueError as error:
        raise Invalid(
            f"Health check matcher HTTP code '{query.single(params, 'Matcher.HttpCode')}' is invalid"
        ) from error


def _check_new_listener(params: Mapping[str, Any]) -> None:
    load_balancer_arn = query.single(params, "LoadBalancerArn")
    port = int(query.single(params, "Port", "0"))
    for listener in alb._listeners.values():
        if listener["LoadBalancerArn"] == load_balancer_arn and int(listener["Port"]) == port:
            raise Invalid(
                f"A listener already exists on this port for this load balancer '{load_balancer_arn}'",
                "DuplicateListener",
            )
    _check_listener(params, port, query.single(params, "Protocol"), has_certificate=False)
    _check_action(query.members(params, "DefaultActions"), load_balancer_arn)


def _check_listener_change(params: Mapping[str, Any]) -> None:
    current = alb._listeners.get(query.single(params, "ListenerArn"))
    if current is None:
        return  # MiniStack answers ListenerNotFound
    port = int(query.single(params, "Port", str(current["Port"])))
    for listener in alb._listeners.values():
        if (
            listener is not current
            and listener["LoadBalancerArn"] == current["LoadBalancerArn"]
            and int(listener["Port"]) == port
        ):
            raise Invalid("A listener already exists on this port for this load balancer", "DuplicateListener")
    protocol = query.single(params, "Protocol", current["Protocol"])
    _check_listener(params, port, protocol, has_certificate=bool(current.get("Certificates")))
    actions = query.members(params, "DefaultActions")
    if actions:
        _check_action(actions, current["LoadBalancerArn"])


def _check_listener(params: Mapping[str, Any], port: int, protocol: str, *, has_certificate: bool) -> None:
    if protocol not in ("HTTP", "HTTPS"):
        raise Invalid(f"Listener protocol '{protocol}' must be one of 'HTTP, HTTPS'")
    if port not in SERVED_PORTS:
        raise NotHonoured(f"a listener on port {port} (80 and 443 are honoured)")
    if protocol == "HTTPS" and not has_certificate and not query.members(params, "Certificates"):
        raise Invalid("A certificate must be specified for HTTPS listeners", "CertificateNotFound")
    if query.single(params, "MutualAuthentication.Mode", "off") != "off":
        raise NotHonoured("mutual TLS")
    if query.members(params, "AlpnPolicy"):
        raise NotHonoured("an ALPN policy")


def _check_new_rule(params: Mapping[str, Any]) -> None:
    listener_arn = query.single(params, "ListenerArn")
    _check_priority(listener_arn, query.single(params, "Priority"), besides=())
    conditions = query.members(params, "Conditions")
    if not conditions:
        raise Invalid("A rule must have at least one condition")
    for condition in conditions:
        read_condition(condition)
    listener = alb._listeners.get(listener_arn)
    _check_action(query.members(params, "Actions"), listener["LoadBalancerArn"] if listener else "")
    _check_transforms(params)


def _check_rule_change(params: Mapping[str, Any]) -> None:
    for condition in query.members(params, "Conditions"):
        read_condition(condition)
    rule = alb._rules.get(query.single(params, "RuleArn"))
    actions = query.members(params, "Actions")
    if rule and actions:
        _check_action(actions, alb._listeners[rule["ListenerArn"]]["LoadBalancerArn"])
    _check_transforms(params)


def _check_transforms(params: Mapping[str, Any]) -> None:
    transforms = alb._parse_transforms(params) or []
    if not alb._transforms_model_error(transforms) and not alb._transforms_problem(transforms):
        read_transforms(transforms)


def _check_priorities(params: Mapping[str, Any]) -> None:
    changes = query.members(params, "RulePriorities")
    arns = [change["RuleArn"] for change in changes]
    for change in changes:
        rule = alb._rules.get(change["RuleArn"])
        if rule is None:
            raise Invalid(f"Rule '{change['RuleArn']}' not found", "RuleNotFound")
        if rule.get("IsDefault"):
            raise Invalid("You cannot set the priority of a default rule", "OperationNotPermitted")
        _check_priority(rule["ListenerArn"], change["Priority"], besides=arns)


def _check_priority(listener_arn: str, priority: str, besides: list[str] | tuple[()]) -> None:
    if not priority.isdigit() or not 1 <= int(priority) <= 50000:
        raise Invalid("Priority must be between 1 and 50000")
    for rule in alb._rules.values():
        if rule["ListenerArn"] == listener_arn and str(rule["Priority"]) == priority and rule["RuleArn"] not in besides:
            raise Invalid(f"Priority '{priority}' is currently in use", "PriorityInUse")


def _check_action(actions: list[dict[str, Any]], load_balancer_arn: str) -> None:
    for arn in target_groups_of(read_action(actions)):
        group = alb._tgs.get(arn)
        if group is None:
            raise Invalid(f"Target group '{arn}' not found", "TargetGroupNotFound")
        if any(user != load_balancer_arn for user in group.get("LoadBalancerArns", ())):
            raise Invalid(
                f"The following target groups cannot be associated with more than one load balancer: {arn}",
                "TargetGroupAssociationLimit",
            )


def _check_unused(params: Mapping[str, Any]) -> None:
    arn = query.single(params, "TargetGroupArn")
    if (alb._tgs.get(arn) or {}).get("LoadBalancerArns"):
        raise Invalid(f"Target group '{arn}' is currently in use by a listener or a rule", "ResourceInUse")


def _no_check(params: Mapping[str, Any]) -> None:
    del params


CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "ModifyLoadBalancerAttributes": _check_load_balancer_attributes,
    "ModifyTargetGroupAttributes": _check_target_group_attributes,
    "ModifyListenerAttributes": _check_listener_attributes,
    "ModifyTargetGroup": _check_target_group_change,
    "DeleteTargetGroup": _check_unused,
    "CreateListener": _check_new_listener,
    "ModifyListener": _check_listener_change,
    "DeleteListener": _no_check,
    "CreateRule": _check_new_rule,
    "ModifyRule": _check_rule_change,
    "DeleteRule": _no_check,
    "SetRulePriorities": _check_priorities,
    "SetSubnets": _no_check,
}
"""By call: raises Invalid or NotHonoured; what passes is then done by MiniStack."""
