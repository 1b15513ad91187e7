"""Reads the records of the elbv2 API, and refuses what the data plane would not follow.

MiniStack's records are in the API's own shapes (`Actions`, `Conditions`, ...). Reading one checks it: `Invalid` is what
AWS refuses too, `NotHonoured` what AWS takes and the region does not. Both are raised when a record is about to be
written (`checks.py`), so that what is in the control plane can always be served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ministack.services import alb

from alva.region.elb.attributes import LOAD_BALANCER_DEFAULTS, TARGET_GROUP_DEFAULTS
from alva.region.elb.records import (
    Action,
    Condition,
    FixedResponse,
    Forward,
    HealthCheck,
    Listener,
    LoadBalancer,
    Records,
    Redirect,
    Rule,
    TargetGroup,
    UrlRewrite,
    WeightedTargetGroup,
)
from alva.region.elb.refusals import Invalid, NotHonoured
from alva.region.elb.visitors import are_let_in, groups_of


def read_action(actions: Iterable[Mapping[str, Any]]) -> Action:
    """The one action of a rule; several (an authentication before a forward) are not honoured."""
    ordered = sorted(actions, key=lambda action: int(action.get("Order") or 1))
    if not ordered:
        raise Invalid("A rule must have at least one action")
    for action in ordered:
        if action["Type"] not in ("forward", "redirect", "fixed-response"):
            raise NotHonoured(f"action {action['Type']}")
    if len(ordered) > 1:
        raise Invalid("The last action must be one of forward, redirect or fixed-response, and the only one of these")
    action = ordered[0]
    if action["Type"] == "forward":
        return _read_forward(action)
    if action["Type"] == "redirect":
        return _read_redirect(action.get("RedirectConfig") or {})
    config = action.get("FixedResponseConfig") or {}
    if not config.get("StatusCode"):
        raise Invalid("A fixed-response action must have a FixedResponseConfig with a StatusCode")
    body = str(config.get("MessageBody") or "")
    if len(body) > 1024:
        raise Invalid("The message body of a fixed response can be at most 1024 characters long")
    return FixedResponse(
        status_code=int(config["StatusCode"]), content_type=config.get("ContentType") or "text/plain", body=body
    )


def _read_forward(action: Mapping[str, Any]) -> Forward:
    config = action.get("ForwardConfig") or {}
    groups = config.get("TargetGroups") or []
    if (config.get("TargetGroupStickinessConfig") or {}).get("Enabled") in (True, "true"):
        raise NotHonoured("TargetGroupStickinessConfig")
    single = action.get("TargetGroupArn")
    if not groups and single:
        groups = [{"TargetGroupArn": single}]
    if not groups:
        raise Invalid("A forward action must have a target group")
    if len(groups) > 5:
        raise Invalid("An action can have at most 5 target groups")
    weighted = tuple(
        WeightedTargetGroup(group["TargetGroupArn"], int(1 if group.get("Weight") is None else group["Weight"]))
        for group in groups
    )
    if any(not 0 <= group.weight <= 999 for group in weighted):
        raise Invalid("The weight of a target group must be between 0 and 999")
    return Forward(weighted)


def _read_redirect(config: Mapping[str, Any]) -> Redirect:
    codes = {"HTTP_301": 301, "HTTP_302": 302}
    if config.get("StatusCode") not in codes:
        raise Invalid("A redirect action must have a RedirectConfig with StatusCode HTTP_301 or HTTP_302")
    redirect = Redirect(
        protocol=str(config.get("Protocol") or "#{protocol}"),
        host=str(config.get("Host") or "#{host}"),
        port=str(config.get("Port") or "#{port}"),
        path=str(config.get("Path") or "/#{path}"),
        query=str("#{query}" if config.get("Query") is None else config["Query"]),
        status_code=codes[config["StatusCode"]],
    )
    if redirect == Redirect(status_code=redirect.status_code):
        raise Invalid("The redirect action is not valid because it creates a loop", "InvalidLoadBalancerAction")
    if redirect.host != "#{host}" and "#{" in redirect.host:
        raise NotHonoured(f"a redirect to host {redirect.host}")
    if redirect.path.replace("#{path}", "", 1).count("#{"):
        raise NotHonoured(f"a redirect to path {redirect.path}")
    if redirect.query not in ("#{query}", "") and ("#{" in redirect.query or "#{path}" in redirect.path):
        raise NotHonoured(f"a redirect to {redirect.path}?{redirect.query}")
    return redirect


_CONDITION_CONFIGS = {
    "path-pattern": "PathPatternConfig",
    "host-header": "HostHeaderConfig",
    "http-header": "HttpHeaderConfig",
    "http-request-method": "HttpRequestMethodConfig",
    "query-string": "QueryStringConfig",
    "source-ip": "SourceIpConfig",
}


def read_condition(condition: Mapping[str, Any]) -> Condition:
    """One condition of a rule, from the typed config or from the plain `Values` of the older form."""
    name = condition.get("Field")
    if name not in _CONDITION_CONFIGS:
        raise Invalid(f"Condition field '{name}' must be one of '[{', '.join(_CONDITION_CONFIGS)}]'")
    config = condition.get(_CONDITION_CONFIGS[name]) or {}
    if config.get("RegexValues"):
        raise NotHonoured(f"regular expressions in a {name} condition")
    values = config.get("Values") or condition.get("Values") or []
    if not values:
        raise Invalid("A condition value must be specified", "InvalidConfigurationRequest")
    if name == "query-string":
        pairs = tuple((pair.get("Key"), str(pair.get("Value") or "")) for pair in values)
        return Condition(field=name, pairs=pairs)
    header_name = None
    if name == "http-header":
        header_name = config.get("HttpHeaderName")
        if not header_name:
            raise Invalid("An http-header condition must have an HttpHeaderName")
        if header_name.lower() == "host":
            raise Invalid("Use a host-header condition for the host header")
    return Condition(field=name, values=tuple(str(value) for value in values), header_name=header_name)


def read_transforms(transforms: Iterable[Mapping[str, Any]]) -> UrlRewrite | None:
    """The URL rewrite among a rule's transforms; a rewrite of the host header is not honoured."""
    rewrite = None
    for transform in transforms:
        if transform["Type"] != "url-rewrite":
            raise NotHonoured(f"transform {transform['Type']}")
        first = transform["UrlRewriteConfig"]["Rewrites"][0]
        rewrite = UrlRewrite(first["Regex"], first["Replace"])
    return rewrite


def read_rule(record: Mapping[str, Any]) -> Rule:
    """A rule's record."""
    return Rule(
        arn=record["RuleArn"],
        priority=None if record.get("IsDefault") else int(record["Priority"]),
        conditions=tuple(read_condition(condition) for condition in record.get("Conditions") or ()),
        action=read_action(record["Actions"]),
        url_rewrite=read_transforms(record.get("Transforms") or ()),
    )


def read_listener(
    record: Mapping[str, Any],
    rules: Iterable[Mapping[str, Any]],
    attributes: Iterable[Mapping[str, str]],
    *,
    lets_visitors_in: bool = True,
) -> Listener:
    """A listener's record with those of its rules."""
    own = [read_rule(rule) for rule in rules if rule["ListenerArn"] == record["ListenerArn"]]
    own.sort(key=lambda rule: float("inf") if rule.priority is None else rule.priority)
    certificates = record.get("Certificates") or [None]
    return Listener(
        arn=record["ListenerArn"],
        port=int(record["Port"]),
        protocol=record["Protocol"],
        rules=tuple(own),
        certificate_arn=certificates[0],
        attributes={item["Key"]: str(item["Value"]) for item in attributes},
        lets_visitors_in=lets_visitors_in,
    )


def read_target_group(record: Mapping[str, Any], attributes: Iterable[Mapping[str, str]]) -> TargetGroup:
    """A target group's record."""
    return TargetGroup(
        arn=record["TargetGroupArn"],
        port=int(record["Port"]),
        protocol=record["Protocol"],
        health_check=HealthCheck(
            protocol=record["HealthCheckProtocol"],
            port=str(record["HealthCheckPort"]),
            path=record["HealthCheckPath"],
            interval_seconds=float(record["HealthCheckIntervalSeconds"]),
            timeout_seconds=float(record["HealthCheckTimeoutSeconds"]),
            healthy_threshold=int(record["HealthyThresholdCount"]),
            unhealthy_threshold=int(record["UnhealthyThresholdCount"]),
            matcher=record["Matcher"]["HttpCode"],
        ),
        attributes=TARGET_GROUP_DEFAULTS | {item["Key"]: str(item["Value"]) for item in attributes},
    )


def read_load_balancer(
    record: Mapping[str, Any], listeners: Iterable[Listener], attributes: Iterable[Mapping[str, str]]
) -> LoadBalancer:
    """A load balancer's record with those of its listeners."""
    return LoadBalancer(
        arn=record["LoadBalancerArn"],
        dns_name=record["DNSName"],
        zones=max(1, len(record.get("Subnets") or ())),
        listeners=tuple(listeners),
        attributes=LOAD_BALANCER_DEFAULTS | {item["Key"]: str(item["Value"]) for item in attributes},
    )


def target_group_on_record(arn: str) -> TargetGroup:
    """A target group as MiniStack has it on record. Raises KeyError when there is none."""
    return read_target_group(alb._tgs[arn], alb._tg_attrs.get(arn, ()))


def visitors_now() -> dict[str, bool]:
    """Which listeners let visitors in, by ARN, as the security groups on record have it now."""
    groups = {arn: groups_of(record) for arn, record in alb._lbs.items()}
    return {
        record["ListenerArn"]: are_let_in(
            groups.get(record["LoadBalancerArn"]),
            int(record["Port"]),
            is_internal=(alb._lbs.get(record["LoadBalancerArn"]) or {}).get("Scheme") == "internal",
        )
        for record in alb._listeners.values()
    }


def records_now() -> Records:
    """What MiniStack has on record now."""
    rules = list(alb._rules.values())
    listeners: dict[str, list[Listener]] = {}
    let_in = visitors_now()
    for record in alb._listeners.values():
        arn = record["ListenerArn"]
        listener = read_listener(record, rules, alb._listener_attrs.get(arn, ()), lets_visitors_in=let_in[arn])
        listeners.setdefault(record["LoadBalancerArn"], []).append(listener)
    return Records(
        tuple(
            read_load_balancer(record, listeners.get(arn, ()), alb._lb_attrs.get(arn, ()))
            for arn, record in alb._lbs.items()
        ),
        {arn: target_group_on_record(arn) for arn in alb._tgs},
    )
