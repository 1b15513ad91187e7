"""The elbv2 records, read into dataclasses, and the refusal of what this load balancer does not honour.

MiniStack's records are in the API's own shapes (`Actions`, `Conditions`, ...). Reading one checks it: `Invalid` is what
AWS refuses too, `NotHonoured` what AWS takes and the region does not. Both are raised when a record is about to be
written (`api.py`), so that what is in the control plane can always be served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


class Invalid(ValueError):
    """AWS would refuse this; `code` is the error code of its API."""

    def __init__(self, message: str, code: str = "ValidationError") -> None:
        super().__init__(message)
        self.code = code


class NotHonoured(ValueError):
    """AWS accepts this, and the local region's load balancer would do something else."""

    def __init__(self, what: str) -> None:
        super().__init__(f"cannot set up {what}: the local region's load balancer does not honour it")


@dataclass(frozen=True)
class WeightedTargetGroup:
    arn: str
    weight: int


@dataclass(frozen=True)
class Forward:
    target_groups: tuple[WeightedTargetGroup, ...]


@dataclass(frozen=True, kw_only=True)
class Redirect:
    """Each part may hold AWS's placeholders, `#{protocol}`, `#{host}`, `#{port}`, `#{path}` and `#{query}`."""

    protocol: str = "#{protocol}"
    host: str = "#{host}"
    port: str = "#{port}"
    path: str = "/#{path}"
    query: str = "#{query}"
    status_code: int


@dataclass(frozen=True, kw_only=True)
class FixedResponse:
    status_code: int
    content_type: str = "text/plain"
    body: str = ""


Action = Forward | Redirect | FixedResponse


@dataclass(frozen=True, kw_only=True)
class Condition:
    """`values` are patterns of which one must match; of a query string, pairs of an optional key and a value."""

    field: str
    values: tuple[str, ...] = ()
    pairs: tuple[tuple[str | None, str], ...] = ()
    header_name: str | None = None


@dataclass(frozen=True)
class UrlRewrite:
    regex: str
    replace: str


@dataclass(frozen=True, kw_only=True)
class Rule:
    arn: str
    priority: int | None
    """None for the default rule."""
    conditions: tuple[Condition, ...] = ()
    action: Action
    url_rewrite: UrlRewrite | None = None


@dataclass(frozen=True, kw_only=True)
class Listener:
    arn: str
    port: int
    protocol: str
    rules: tuple[Rule, ...]
    """By priority, the default rule last."""
    certificate_arn: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The last part of the ARN, unique within the region."""
        return self.arn.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class LoadBalancer:
    arn: str
    dns_name: str
    zones: int
    """How many Availability Zones it is in: as many nodes check the targets on AWS."""
    listeners: tuple[Listener, ...]
    attributes: Mapping[str, str]

    @property
    def full_name(self) -> str:
        """`app/<name>/<id>`, the LoadBalancer dimension of its metrics."""
        return self.arn.partition(":loadbalancer/")[2]

    @property
    def address(self) -> str:
        """The loopback address on which it listens."""
        return self.dns_name.partition(":")[0]

    @property
    def idle_timeout_seconds(self) -> int:
        return int(self.attributes["idle_timeout.timeout_seconds"])


@dataclass(frozen=True, kw_only=True)
class HealthCheck:
    protocol: str
    port: str
    """`traffic-port`, or a number."""
    path: str
    interval_seconds: float
    timeout_seconds: float
    healthy_threshold: int
    unhealthy_threshold: int
    matcher: str


@dataclass(frozen=True, kw_only=True)
class TargetGroup:
    arn: str
    port: int
    protocol: str
    health_check: HealthCheck
    attributes: Mapping[str, str]

    @property
    def full_name(self) -> str:
        """`targetgroup/<name>/<id>`, the TargetGroup dimension of its metrics."""
        return self.arn.rpartition(":")[2]

    @property
    def id(self) -> str:
        """The last part of the ARN, unique within the region."""
        return self.arn.rpartition("/")[2]

    @property
    def deregistration_delay_seconds(self) -> int:
        return int(self.attributes["deregistration_delay.timeout_seconds"])


@dataclass(frozen=True)
class Records:
    """Everything that the data plane is made from."""

    load_balancers: tuple[LoadBalancer, ...] = ()
    target_groups: Mapping[str, TargetGroup] = field(default_factory=dict)
    """By ARN."""

    def attached(self) -> dict[str, list[LoadBalancer]]:
        """Which load balancers route to each target group, by its ARN; a group without one is unused."""
        result: dict[str, list[LoadBalancer]] = {}
        for load_balancer in self.load_balancers:
            for listener in load_balancer.listeners:
                for rule in listener.rules:
                    for arn in target_groups_of(rule.action):
                        balancers = result.setdefault(arn, [])
                        if load_balancer not in balancers:
                            balancers.append(load_balancer)
        return result


def target_groups_of(action: Action) -> tuple[str, ...]:
    """The ARNs of the target groups that an action forwards to."""
    return tuple(group.arn for group in action.target_groups) if isinstance(action, Forward) else ()


# Attributes, with the values that are honoured; None accepts any value. Those in the second table do nothing here.
# https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_LoadBalancerAttribute.html
LOAD_BALANCER_ATTRIBUTES: dict[str, tuple[str, ...] | None] = {
    "idle_timeout.timeout_seconds": None,
    "client_keep_alive.seconds": None,
    "deletion_protection.enabled": None,
    "routing.http.drop_invalid_header_fields.enabled": None,
    "routing.http.xff_header_processing.mode": ("append", "preserve", "remove"),
    "routing.http.xff_client_port.enabled": ("false",),
    "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": ("false",),
    "routing.http2.enabled": None,
}
LOAD_BALANCER_ATTRIBUTES_WITHOUT_EFFECT = (
    "access_logs.s3.enabled",
    "access_logs.s3.bucket",
    "access_logs.s3.prefix",
    "connection_logs.s3.enabled",
    "connection_logs.s3.bucket",
    "connection_logs.s3.prefix",
    "health_check_logs.s3.enabled",
    "health_check_logs.s3.bucket",
    "health_check_logs.s3.prefix",
    "load_balancing.cross_zone.enabled",
    # The client's Host always reaches the target with its port: here the port is part of the DNS name.
    "routing.http.preserve_host_header.enabled",
    "routing.http.desync_mitigation_mode",
    "waf.fail_open.enabled",
    "zonal_shift.config.enabled",
    "ipv6.deny_all_igw_traffic",
)
LOAD_BALANCER_DEFAULTS = {
    "idle_timeout.timeout_seconds": "60",
    "client_keep_alive.seconds": "3600",
    "deletion_protection.enabled": "false",
    "routing.http.drop_invalid_header_fields.enabled": "false",
    "routing.http.xff_header_processing.mode": "append",
    "routing.http.xff_client_port.enabled": "false",
    "routing.http.x_amzn_tls_version_and_cipher_suite.enabled": "false",
    "routing.http.preserve_host_header.enabled": "false",
    "routing.http.desync_mitigation_mode": "defensive",
    "routing.http2.enabled": "true",
    "access_logs.s3.enabled": "false",
    "connection_logs.s3.enabled": "false",
    "load_balancing.cross_zone.enabled": "true",
    "waf.fail_open.enabled": "false",
}
# https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetGroupAttribute.html
TARGET_GROUP_ATTRIBUTES: dict[str, tuple[str, ...] | None] = {
    "deregistration_delay.timeout_seconds": None,
    "load_balancing.algorithm.type": ("round_robin", "least_outstanding_requests"),
    "load_balancing.algorithm.anomaly_mitigation": ("off",),
    "slow_start.duration_seconds": ("0",),
    "stickiness.enabled": ("false",),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": ("1",),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": ("off",),
}
TARGET_GROUP_ATTRIBUTES_WITHOUT_EFFECT = (
    "load_balancing.cross_zone.enabled",
    "stickiness.type",
    "stickiness.lb_cookie.duration_seconds",
    "stickiness.app_cookie.cookie_name",
    "stickiness.app_cookie.duration_seconds",
    "target_group_health.dns_failover.minimum_healthy_targets.count",
    "target_group_health.dns_failover.minimum_healthy_targets.percentage",
)
TARGET_GROUP_DEFAULTS = {
    "deregistration_delay.timeout_seconds": "300",
    "load_balancing.algorithm.type": "round_robin",
    "load_balancing.algorithm.anomaly_mitigation": "off",
    "load_balancing.cross_zone.enabled": "use_load_balancer_configuration",
    "slow_start.duration_seconds": "0",
    "stickiness.enabled": "false",
    "stickiness.type": "lb_cookie",
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": "1",
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": "off",
}
RESPONSE_HEADER_ATTRIBUTES = {
    f"routing.http.response.{name.lower().replace('-', '_')}.header_value": name
    for name in (
        "Access-Control-Allow-Origin",
        "Access-Control-Allow-Methods",
        "Access-Control-Allow-Headers",
        "Access-Control-Allow-Credentials",
        "Access-Control-Expose-Headers",
        "Access-Control-Max-Age",
        "Strict-Transport-Security",
        "Content-Security-Policy",
        "X-Content-Type-Options",
        "X-Frame-Options",
    )
}
LISTENER_ATTRIBUTES: dict[str, tuple[str, ...] | None] = {
    "routing.http.response.server.enabled": None,
    **dict.fromkeys(RESPONSE_HEADER_ATTRIBUTES),
}


def check_attributes(
    attributes: Mapping[str, str], honoured: Mapping[str, tuple[str, ...] | None], without_effect: Iterable[str] = ()
) -> None:
    """Raise NotHonoured for an attribute, or a value of one, that the data plane would not follow."""
    for key, value in attributes.items():
        if key in honoured:
            accepted = honoured[key]
            if accepted is not None and value not in accepted:
                raise NotHonoured(f"attribute {key}={value} ({', '.join(accepted)} are honoured)")
        elif key not in without_effect:
            raise NotHonoured(f"attribute {key}")


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
    record: Mapping[str, Any], rules: Iterable[Mapping[str, Any]], attributes: Iterable[Mapping[str, str]]
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
