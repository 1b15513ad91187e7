"""Reads actions, conditions, transforms and health checks of requests into records.

Reading checks the input, so that Envoy can serve every record of the store. It raises `Invalid` for input that AWS
refuses too, and `NotHonoured` for input that only the region refuses. `query_protocol.py` has checked the constraints
of AWS's model before: types, required members, enums and lengths.

https://docs.aws.amazon.com/elasticloadbalancing/latest/application/listener-update-rules.html
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from alva.region.elb.describing import CONDITION_CONFIGS
from alva.region.elb.records import (
    Action,
    Condition,
    FixedResponse,
    Forward,
    HealthCheck,
    Redirect,
    UrlRewrite,
    WeightedTargetGroup,
)
from alva.region.elb.refusals import Invalid, NotHonoured

Json = Mapping[str, Any]

MOST_CONDITION_VALUES = 5
"""AWS's quota of a rule. https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html
"""

_ONCE_A_RULE = ("host-header", "http-request-method", "path-pattern", "source-ip")
_LONGEST_VALUE = 128
_LONGEST_HEADER_NAME = 40
_CONTENT_TYPES = ("text/plain", "text/css", "text/html", "application/javascript", "application/json")

DEFAULT_HEALTH_CHECK = HealthCheck(
    protocol="HTTP",
    port="traffic-port",
    path="/",
    interval_seconds=30,
    timeout_seconds=5,
    healthy_threshold=5,
    unhealthy_threshold=2,
    matcher="200",
)
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateTargetGroup.html"""


# Actions


def action(actions: Iterable[Json]) -> Action:
    """The action of a rule. Several actions (an authentication before a forward) are not honoured."""
    ordered = sorted(actions, key=lambda each: each.get("Order") or 1)
    if not ordered:
        raise Invalid("A rule must have at least one action")
    for each in ordered:
        if each["Type"] not in ("forward", "redirect", "fixed-response"):
            raise NotHonoured(f"action {each['Type']}")
    if len(ordered) > 1:
        raise Invalid("The last action must be one of forward, redirect or fixed-response, and the only one of these")
    first = ordered[0]
    if first["Type"] == "forward":
        return _forward(first)
    if first["Type"] == "redirect":
        return _redirect(first.get("RedirectConfig"))
    return _fixed_response(first.get("FixedResponseConfig"))


def _forward(given: Json) -> Forward:
    config = given.get("ForwardConfig") or {}
    if (config.get("TargetGroupStickinessConfig") or {}).get("Enabled"):
        raise NotHonoured("TargetGroupStickinessConfig")
    single = given.get("TargetGroupArn")
    groups = config.get("TargetGroups") or ([{"TargetGroupArn": single}] if single else [])
    if not groups:
        raise Invalid("A forward action must have a target group")
    if len(groups) > 5:
        raise Invalid("An action can have at most 5 target groups", "TooManyTargetGroups")
    weighted = tuple(
        WeightedTargetGroup(each.get("TargetGroupArn") or "", 1 if each.get("Weight") is None else each["Weight"])
        for each in groups
    )
    if any(not 0 <= group.weight <= 999 for group in weighted):
        raise Invalid("The weight of a target group must be between 0 and 999")
    if len({group.arn for group in weighted}) < len(weighted):
        raise Invalid("A target group can be specified only once in an action")
    return Forward(weighted)


def _redirect(config: Json | None) -> Redirect:
    if config is None:
        raise Invalid("A redirect action must have a RedirectConfig")
    redirect = Redirect(
        protocol=config.get("Protocol") or "#{protocol}",
        host=config.get("Host") or "#{host}",
        port=config.get("Port") or "#{port}",
        path=config.get("Path") or "/#{path}",
        query="#{query}" if config.get("Query") is None else config["Query"],
        status_code={"HTTP_301": 301, "HTTP_302": 302}[config["StatusCode"]],
    )
    if redirect == Redirect(status_code=redirect.status_code):
        raise Invalid("The redirect action is not valid because it creates a loop", "InvalidLoadBalancerAction")
    if redirect.port != "#{port}" and not _is_port(redirect.port):
        raise Invalid(f"The redirect port '{redirect.port}' must be between 1 and 65535, or #{{port}}")
    if not redirect.path.startswith("/"):
        raise Invalid(f"The redirect path '{redirect.path}' must start with '/'")
    if redirect.host != "#{host}" and "#{" in redirect.host:
        raise NotHonoured(f"a redirect to host {redirect.host}")
    if redirect.path.replace("#{path}", "", 1).count("#{"):
        raise NotHonoured(f"a redirect to path {redirect.path}")
    if redirect.query not in ("#{query}", "") and ("#{" in redirect.query or "#{path}" in redirect.path):
        raise NotHonoured(f"a redirect to {redirect.path}?{redirect.query}")
    return redirect


def check_redirect_protocol(given: Action, listener_protocol: str) -> None:
    """Raise Invalid for a redirect from HTTPS to HTTP.

    "You can redirect HTTP to HTTP, HTTP to HTTPS, and HTTPS to HTTPS. You can't redirect HTTPS to HTTP."
    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_RedirectActionConfig.html
    """
    if isinstance(given, Redirect) and listener_protocol == "HTTPS" and given.protocol == "HTTP":
        raise Invalid("An HTTPS listener cannot redirect to HTTP", "InvalidLoadBalancerAction")


def _fixed_response(config: Json | None) -> FixedResponse:
    if config is None:
        raise Invalid("A fixed-response action must have a FixedResponseConfig")
    content_type = config.get("ContentType") or "text/plain"
    if content_type not in _CONTENT_TYPES:
        raise Invalid(f"The ContentType must be one of: '{', '.join(_CONTENT_TYPES)}'", "InvalidLoadBalancerAction")
    return FixedResponse(
        status_code=int(config["StatusCode"]), content_type=content_type, body=config.get("MessageBody") or ""
    )


# Conditions


def conditions(given: Iterable[Json]) -> tuple[Condition, ...]:
    """The conditions of a rule: at least one, at most five values in all."""
    read = tuple(_condition(each) for each in given)
    if not read:
        raise Invalid("A rule must have at least one condition")
    if sum(len(each.values) + len(each.pairs) for each in read) > MOST_CONDITION_VALUES:
        raise Invalid(f"A rule can only have '{MOST_CONDITION_VALUES}' condition values")
    for name in _ONCE_A_RULE:
        if sum(each.field == name for each in read) > 1:
            raise Invalid(f"A rule can only have one '{name}' condition")
    return read


def _condition(given: Json) -> Condition:
    """One condition, from the typed config or from the `Values` of the older form."""
    name = given.get("Field")
    if name not in CONDITION_CONFIGS:
        raise Invalid(f"Condition field '{name}' must be one of '[{', '.join(CONDITION_CONFIGS)}]'")
    other = next((key for key in CONDITION_CONFIGS.values() if given.get(key) and key != CONDITION_CONFIGS[name]), None)
    if other:
        raise Invalid(f"A condition with the field '{name}' cannot have '{other}'")
    config = given.get(CONDITION_CONFIGS[name]) or {}
    if config.get("RegexValues") or given.get("RegexValues"):
        raise NotHonoured(f"regular expressions in a {name} condition")
    values = config.get("Values") or given.get("Values") or []
    if not values:
        raise Invalid("A condition value must be specified", "InvalidConfigurationRequest")
    if name == "query-string":
        pairs = tuple((each.get("Key"), each.get("Value") or "") for each in values)
        _check_lengths(name, [text for pair in pairs for text in pair if text])
        return Condition(field=name, pairs=pairs)
    _check_lengths(name, values)
    _check_values(name, values)
    header_name = config.get("HttpHeaderName") if name == "http-header" else None
    if name == "http-header":
        _check_header_name(header_name or "")
    return Condition(field=name, values=tuple(values), header_name=header_name)


def _check_lengths(name: str, values: Iterable[str]) -> None:
    longest = 40 if name == "http-request-method" else _LONGEST_VALUE
    for value in values:
        if not value:
            raise Invalid("A condition value cannot be empty")
        if len(value) > longest:
            raise Invalid(f"The value of a {name} condition cannot be longer than '{longest}' characters")


def _check_values(name: str, values: Iterable[str]) -> None:
    for value in values:
        if name == "source-ip":
            _check_network(value)
        if name == "http-request-method" and not re.fullmatch("[A-Z_-]+", value):
            raise Invalid(f"The HTTP request method '{value}' can only contain A-Z, hyphen (-) and underscore (_)")
        if name == "path-pattern" and not re.fullmatch(r"[A-Za-z0-9_.$/~\"'@:+&()!,;=*?\\-]+", value):
            raise Invalid(f"The path pattern '{value}' contains characters that are not valid")
        if name == "host-header" and not re.fullmatch(r"[A-Za-z0-9.*?_-]+", value):
            raise Invalid(f"The host name '{value}' contains characters that are not valid")


def _check_network(value: str) -> None:
    try:
        if "/" not in value:
            raise ValueError("no prefix length")
        network = ipaddress.ip_network(value)
    except ValueError as error:
        raise Invalid(f"The value '{value}' of a source-ip condition is not a valid CIDR block") from error
    if network.version != 4:
        raise NotHonoured(f"an IPv6 source-ip condition ({value})")


def _check_header_name(name: str) -> None:
    if not name:
        raise Invalid("An http-header condition must have an HttpHeaderName")
    if len(name) > _LONGEST_HEADER_NAME:
        raise Invalid(f"The HttpHeaderName '{name}' cannot be longer than '{_LONGEST_HEADER_NAME}' characters")
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise Invalid(f"The HttpHeaderName '{name}' contains characters that are not valid")
    if name.lower() == "host":
        raise Invalid("Use a host-header condition for the host header")


# Transforms


def url_rewrite(transforms: Iterable[Json]) -> UrlRewrite | None:
    """The URL rewrite among a rule's transforms; a rewrite of the host header is not honoured.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-transforms.html
    """
    listed = list(transforms)
    types = [each["Type"] for each in listed]
    if len(set(types)) < len(types):
        raise Invalid("A rule can only have one transform of each type")
    if "host-header-rewrite" in types:
        raise NotHonoured("transform host-header-rewrite")
    if not listed:
        return None
    config = listed[0].get("UrlRewriteConfig")
    if config is None:
        raise Invalid(
            "For transforms of type 'url-rewrite', you must specify the following field(s): 'UrlRewriteConfig'"
        )
    rewrites = config.get("Rewrites") or []
    if len(rewrites) != 1:
        raise Invalid("Rule transforms must have exactly one Rewrite")
    regex, replacement = rewrites[0]["Regex"], rewrites[0]["Replace"]
    if len(replacement) > 1024:
        raise Invalid("A transform rewrite Replace value must be between 0 and 1024 characters in length")
    if not 1 <= len(regex) <= 1024:
        raise Invalid("A transform rewrite Regex value must be between 1 and 1024 characters in length")
    if not re.fullmatch("[!-~]*", replacement):
        raise Invalid("A transform rewrite Replace value may only consist of non-whitespace printable ASCII characters")
    _check_regex(regex)
    return UrlRewrite(regex, replacement)


def _check_regex(regex: str) -> None:
    """Check a regular expression. Envoy's syntax (RE2), like AWS's, has neither look-around nor back-references."""
    invalid = Invalid("One or more provided transform rewrite Regex values are invalid")
    if not re.fullmatch("[!-~]+", regex) or re.search(r"\(\?(?:[=!>]|<[=!])|\\[0-9kZ]", regex):
        raise invalid
    try:
        re.compile(regex.replace("(?<", "(?P<").replace(r"\z", r"\Z"))
    except re.error as error:
        raise invalid from error


# Health checks


def health_check(given: Json, current: HealthCheck) -> HealthCheck:
    """`current` with the request's changes. Ranges of numbers are checked by the model, the rest here."""
    if given.get("HealthCheckEnabled") is False:
        raise Invalid("Health check enabled must be true for target groups with target type 'ip'")
    if (given.get("Matcher") or {}).get("GrpcCode"):
        raise NotHonoured("a matcher for gRPC codes")
    check = described_health_check(given, current)
    if check.protocol not in ("HTTP", "HTTPS"):
        raise Invalid(f"Health check protocol '{check.protocol}' must be one of 'HTTP, HTTPS'")
    if check.port != "traffic-port" and not _is_port(check.port):
        raise Invalid(f"Health check port '{check.port}' must be 'traffic-port' or a number between 1 and 65535")
    if not check.path.startswith("/"):
        raise Invalid(f"Health check path '{check.path}' must begin with a '/' character")
    if re.search(r"[^!-~]", check.path):
        raise Invalid(f"Health check path '{check.path}' contains characters that are not valid")
    if check.timeout_seconds >= check.interval_seconds:
        raise Invalid("Health check interval must be greater than the timeout")
    _check_matcher(check.matcher)
    return check


def described_health_check(given: Json, current: HealthCheck) -> HealthCheck:
    """`current` with the members of a TargetGroup, unchecked."""
    members = {
        "protocol": given.get("HealthCheckProtocol"),
        "port": given.get("HealthCheckPort"),
        "path": given.get("HealthCheckPath"),
        "interval_seconds": given.get("HealthCheckIntervalSeconds"),
        "timeout_seconds": given.get("HealthCheckTimeoutSeconds"),
        "healthy_threshold": given.get("HealthyThresholdCount"),
        "unhealthy_threshold": given.get("UnhealthyThresholdCount"),
        "matcher": (given.get("Matcher") or {}).get("HttpCode"),
    }
    return replace(current, **{name: value for name, value in members.items() if value is not None})


def _check_matcher(matcher: str) -> None:
    """Check a matcher: codes and ranges between 200 and 499.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_Matcher.html
    """
    if not re.fullmatch(r"[0-9]{3}(-[0-9]{3})?(,[0-9]{3}(-[0-9]{3})?)*", matcher):
        raise Invalid(f"Health check matcher HTTP code '{matcher}' is invalid")
    if any(not 200 <= int(code) <= 499 for code in re.findall("[0-9]+", matcher)):
        raise Invalid(f"Health check matcher HTTP code '{matcher}' must be within '200-499' inclusive")


def _is_port(text: str) -> bool:
    return text.isdecimal() and text.isascii() and 1 <= int(text) <= 65535
