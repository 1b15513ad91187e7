"""The elbv2 calls of MiniStack, corrected: nothing is stored that the data plane would not serve.

What MiniStack lacks or loses, and this module adds: weighted forwards and query-string conditions; the errors that AWS
gives for a taken priority, a second listener on a port, a target group in use; targets by address and port with their
true health; the load balancers of a target group; a DNS name that leads here. Everything else stays MiniStack's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ministack.services import alb

from alva.region.elb import query
from alva.region.elb.records import (
    LISTENER_ATTRIBUTES,
    LOAD_BALANCER_ATTRIBUTES,
    LOAD_BALANCER_ATTRIBUTES_WITHOUT_EFFECT,
    LOAD_BALANCER_DEFAULTS,
    TARGET_GROUP_ATTRIBUTES,
    TARGET_GROUP_ATTRIBUTES_WITHOUT_EFFECT,
    TARGET_GROUP_DEFAULTS,
    Invalid,
    NotHonoured,
    check_attributes,
    read_action,
    read_condition,
    read_transforms,
    target_groups_of,
)
from alva.region.elb.target_health import TargetHealth, matches

if TYPE_CHECKING:
    from alva.region.elb.load_balancers import LoadBalancers

Answer = tuple[int, dict[str, str], bytes]
Handler = Callable[[Mapping[str, Any]], Answer]

SERVED_PORTS = (80, 443)
REPLACED_CALLS = (
    "CreateLoadBalancer",
    "CreateTargetGroup",
    "DeleteLoadBalancer",
    "RegisterTargets",
    "DeregisterTargets",
    "DescribeTargetHealth",
)
"""The calls whose answer is the region's own; those in `_CHECKS` are checked first and then MiniStack's."""

_original: dict[str, Handler] = {}


def install(load_balancers: LoadBalancers) -> None:
    """Put the corrections into MiniStack, in place of those of an earlier region in this process."""
    if not _original:
        _original.update(alb._ACTION_MAP)
    alb._parse_actions = lambda params, prefix="DefaultActions": query.members(params, prefix)
    alb._parse_conditions = lambda params, prefix="Conditions": query.members(params, prefix)
    alb._action_xml = lambda action: f"<member>{query.to_xml(_described_action(action))}</member>"
    alb._condition_xml = lambda condition: f"<member>{query.to_xml(_described_condition(condition))}</member>"

    def answering(handler: Handler) -> Handler:
        def answer(params: Mapping[str, Any]) -> Answer:
            try:
                return handler(params)
            except Invalid as error:
                return _error(error.code, str(error))
            except NotHonoured as error:
                return _error("UnsupportedOperation", str(error))

        return answer

    def then_serve(name: str, check: Callable[[Mapping[str, Any]], None]) -> Handler:
        def answer(params: Mapping[str, Any]) -> Answer:
            check(params)
            result = _original[name](params)
            if result[0] < 300:
                record_load_balancer_arns()
                load_balancers.changed()
            return result

        return answer

    for name, check in _CHECKS.items():
        alb._ACTION_MAP[name] = answering(then_serve(name, check))

    def create_load_balancer(params: Mapping[str, Any]) -> Answer:
        _check_load_balancer(params)
        dns_name = load_balancers.free_dns_name()
        result = _original["CreateLoadBalancer"](params)
        if result[0] >= 300:
            return result
        name = query.single(params, "Name")
        record = next(record for record in alb._lbs.values() if record["LoadBalancerName"] == name)
        record["DNSName"] = dns_name
        alb._lb_attrs[record["LoadBalancerArn"]] = _as_attributes(LOAD_BALANCER_DEFAULTS)
        load_balancers.changed()
        return _answer("CreateLoadBalancer", f"<LoadBalancers>{alb._lb_xml(record)}</LoadBalancers>")

    def create_target_group(params: Mapping[str, Any]) -> Answer:
        _check_target_group(params)
        result = _original["CreateTargetGroup"](params)
        if result[0] < 300:
            name = query.single(params, "Name")
            arn = next(group["TargetGroupArn"] for group in alb._tgs.values() if group["TargetGroupName"] == name)
            alb._tg_attrs[arn] = _as_attributes(TARGET_GROUP_DEFAULTS)
        return result

    def delete_load_balancer(params: Mapping[str, Any]) -> Answer:
        arn = query.single(params, "LoadBalancerArn")
        attributes = {item["Key"]: item["Value"] for item in alb._lb_attrs.get(arn, ())}
        if attributes.get("deletion_protection.enabled") == "true":
            raise Invalid(
                f"Load balancer '{arn}' cannot be deleted because deletion protection is enabled",
                "OperationNotPermitted",
            )
        for listener in [item for item in alb._listeners.values() if item["LoadBalancerArn"] == arn]:
            _original["DeleteListener"]({"ListenerArn": listener["ListenerArn"]})
        result = _original["DeleteLoadBalancer"](params)
        record_load_balancer_arns()
        load_balancers.changed()
        return result

    def register(params: Mapping[str, Any]) -> Answer:
        for arn, address, port in _targets(params):
            load_balancers.register(arn, address, port)
        return _empty("RegisterTargets")

    def deregister(params: Mapping[str, Any]) -> Answer:
        for arn, address, port in _targets(params):
            load_balancers.deregister(arn, address, port)
        return _empty("DeregisterTargets")

    def describe_health(params: Mapping[str, Any]) -> Answer:
        arn = query.single(params, "TargetGroupArn")
        asked = _targets(params) or [(arn, address, port) for address, port in load_balancers.targets(arn)]
        described = [
            _described_target(address, port, load_balancers.health(arn, address, port)) for _, address, port in asked
        ]
        return _answer(
            "DescribeTargetHealth",
            f"<TargetHealthDescriptions>{query.to_xml(described)}</TargetHealthDescriptions>",
        )

    handlers = (create_load_balancer, create_target_group, delete_load_balancer, register, deregister, describe_health)
    for name, handler in zip(REPLACED_CALLS, handlers, strict=True):
        alb._ACTION_MAP[name] = answering(handler)


def call(action: str, request: Mapping[str, Any]) -> None:
    """Make an elbv2 call from within the region; raises Invalid with the message that a client would get."""
    status, _, body = alb._ACTION_MAP[action](query.flatten(request))
    if status >= 300:
        text = body.decode()
        code = text.partition("<Code>")[2].partition("</Code>")[0]
        message = text.partition("<Message>")[2].partition("</Message>")[0]
        for entity, character in (("&quot;", '"'), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
            message = message.replace(entity, character)
        raise Invalid(message, code)


def record_load_balancer_arns() -> None:
    """Write down for each target group which load balancers use it: through any rule, not only a default one."""
    users: dict[str, set[str]] = {}
    for rule in alb._rules.values():
        listener = alb._listeners.get(rule["ListenerArn"])
        if listener:
            for arn in target_groups_of(read_action(rule["Actions"])):
                users.setdefault(arn, set()).add(listener["LoadBalancerArn"])
    for arn, group in alb._tgs.items():
        group["LoadBalancerArns"] = sorted(users.get(arn, ()))


def _check_load_balancer(params: Mapping[str, Any]) -> None:
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


def _check_target_group(params: Mapping[str, Any]) -> None:
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


_CHECKS: dict[str, Callable[[Mapping[str, Any]], None]] = {
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


def _targets(params: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    arn = query.single(params, "TargetGroupArn")
    group = alb._tgs.get(arn)
    if group is None:
        raise Invalid(f"Target group '{arn}' not found", "TargetGroupNotFound")
    result = []
    for target in query.members(params, "Targets"):
        octets = target["Id"].split(".")
        if len(octets) != 4 or not all(octet.isdigit() and int(octet) < 256 for octet in octets):
            raise Invalid(f"The IP address '{target['Id']}' is not a valid IPv4 address", "ValidationError")
        result.append((arn, target["Id"], int(target.get("Port") or group["Port"])))
    return result


def _described_action(action: Mapping[str, Any]) -> dict[str, Any]:
    """A forward in both forms, as DescribeRules shows it; numbers and order as they were given."""
    described = {"Type": action["Type"], "Order": action.get("Order"), **action}
    if action["Type"] == "forward":
        config = dict(action.get("ForwardConfig") or {})
        groups = config.get("TargetGroups") or [{"TargetGroupArn": action.get("TargetGroupArn"), "Weight": 1}]
        config["TargetGroups"] = [{"Weight": 1, **group} for group in groups]
        config.setdefault("TargetGroupStickinessConfig", {"Enabled": False})
        described["ForwardConfig"] = config
        if len(groups) == 1:
            described["TargetGroupArn"] = groups[0]["TargetGroupArn"]
    if action["Type"] == "redirect":
        defaults = {
            "Protocol": "#{protocol}",
            "Port": "#{port}",
            "Host": "#{host}",
            "Path": "/#{path}",
            "Query": "#{query}",
        }
        described["RedirectConfig"] = defaults | dict(action["RedirectConfig"])
    return described


def _described_condition(condition: Mapping[str, Any]) -> dict[str, Any]:
    """A condition in both forms, the plain `Values` and the typed config, where it has both."""
    described = dict(condition)
    config_names = {
        "path-pattern": "PathPatternConfig",
        "host-header": "HostHeaderConfig",
        "http-request-method": "HttpRequestMethodConfig",
        "source-ip": "SourceIpConfig",
    }
    config_name = config_names.get(condition["Field"])
    if config_name:
        values = (condition.get(config_name) or {}).get("Values") or condition.get("Values")
        described |= {"Values": values, config_name: {"Values": values}}
    return described


def _described_target(address: str, port: int, health: TargetHealth) -> dict[str, Any]:
    return {
        "Target": {"Id": address, "Port": port},
        "HealthCheckPort": port,
        "TargetHealth": {
            "State": health.state.value,
            "Reason": health.reason,
            "Description": health.description,
        },
    }


def _as_attributes(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in values.items()]


def _answer(action: str, inner: str) -> Answer:
    result: Answer = alb._xml(200, action, inner)
    return result


def _empty(action: str) -> Answer:
    result: Answer = alb._empty(action)
    return result


def _error(code: str, message: str) -> Answer:
    result: Answer = alb._error(code, message)
    return result
