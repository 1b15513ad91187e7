"""Listener rules as Envoy routes. Pure: a rule in, a route out."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any

from alva.region.elb.attributes import RESPONSE_HEADER_ATTRIBUTES
from alva.region.elb.records import (
    Condition,
    FixedResponse,
    Forward,
    Listener,
    LoadBalancer,
    Redirect,
    Rule,
    UrlRewrite,
)
from alva.region.elb.refusals import NotHonoured

SERVER = "awselb/2.0"
"""The Server header of responses that an ALB creates itself."""

SOURCE_HEADER = "x-alva-source-ip"
"""A request has its client's address in this header until the rules are evaluated; targets do not get it."""

Json = dict[str, Any]


def route_configuration(
    load_balancer: LoadBalancer, listener: Listener, cluster_name: Callable[[str], str], edge_port: Callable[[int], int]
) -> Json:
    """Envoy's RouteConfiguration of one listener.

    `cluster_name` returns the cluster of a target group's ARN. `edge_port` returns the port on which the region serves
    a listener port (8443 for 443, for example), for redirects.
    """
    return {
        "name": listener.id,
        "virtual_hosts": [
            {
                "name": listener.id,
                "domains": ["*"],
                "routes": [route(rule, load_balancer, listener, cluster_name, edge_port) for rule in listener.rules],
                "request_headers_to_add": [_set_header("X-Forwarded-Port", str(listener.port))],
                "request_headers_to_remove": [SOURCE_HEADER, "x-envoy-internal", "x-envoy-external-address"],
                "response_headers_to_add": [
                    _set_header(name, listener.attributes[key])
                    for key, name in RESPONSE_HEADER_ATTRIBUTES.items()
                    if listener.attributes.get(key)
                ],
            }
        ],
    }


def route(
    rule: Rule,
    load_balancer: LoadBalancer,
    listener: Listener,
    cluster_name: Callable[[str], str],
    edge_port: Callable[[int], int],
) -> Json:
    """Envoy's route of one rule: every condition must match, with one of its values."""
    result: Json = {"name": rule.arn.rpartition("/")[2], "match": _match(rule)}
    match rule.action:
        case Forward():
            result["route"] = _forward(rule.action, rule.url_rewrite, load_balancer, cluster_name)
        case Redirect():
            result["redirect"] = _redirect(rule.action, listener, edge_port)
            result["response_headers_to_add"] = _server_header(listener)
        case FixedResponse():
            result["direct_response"] = {
                "status": rule.action.status_code,
                "body": {"inline_string": rule.action.body},
            }
            result["response_headers_to_add"] = [
                _set_header("Content-Type", rule.action.content_type),
                *_server_header(listener),
            ]
    return result


def _match(rule: Rule) -> Json:
    match: Json = {"prefix": "/"}
    headers = []
    for condition in rule.conditions:
        if condition.field == "path-pattern" and "safe_regex" not in match:
            # Envoy matches the path without its query, as an ALB does.
            match = {"safe_regex": {"regex": _any_of(condition.values)}}
        else:
            headers.append(_header_matcher(condition))
    if headers:
        match["headers"] = headers
    return match


def _header_matcher(condition: Condition) -> Json:
    match condition.field:
        case "path-pattern":
            return _header_regex(":path", f"(?:{_any_of(condition.values)})(?:[?].*)?")
        case "host-header":
            # The Host contains a port here, since the DNS name does; patterns have none.
            return _header_regex(":authority", f"(?i)(?:{_any_of(condition.values)})(?::[0-9]+)?")
        case "http-header":
            assert condition.header_name is not None  # noqa: S101 - `reading` refuses it
            return _header_regex(condition.header_name.lower(), f"(?i)(?:{_any_of(condition.values, escapes=True)})")
        case "http-request-method":
            return _header_regex(":method", "|".join(re.escape(value) for value in condition.values))
        case "query-string":
            return _header_regex(":path", query_regex(condition.pairs))
        case "source-ip":
            return _header_regex(SOURCE_HEADER, "|".join(network_regex(value) for value in condition.values))
    raise AssertionError(condition.field)


def _header_regex(name: str, regex: str) -> Json:
    return {"name": name, "string_match": {"safe_regex": {"regex": regex}}}


def wildcard_regex(pattern: str, *, escapes: bool = False) -> str:
    """A pattern of a rule condition as a regular expression: `*` is any text, `?` is any one character.

    With `escapes`, for header and query conditions, a backslash escapes the next character.
    """
    parts = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\" and escapes:
            parts.append(re.escape(next(characters, "\\")))
        else:
            parts.append({"*": ".*", "?": "."}.get(character) or re.escape(character))
    return "".join(parts)


def _any_of(patterns: tuple[str, ...], *, escapes: bool = False) -> str:
    return "|".join(wildcard_regex(pattern, escapes=escapes) for pattern in patterns)


def query_regex(pairs: tuple[tuple[str | None, str], ...]) -> str:
    """A regular expression for a whole path whose query has one of the pairs; a pair without a key matches any key.

    As in an ALB, the comparison ignores case, and key and value are those of one parameter.
    """

    def parameter(key: str | None, value: str) -> str:
        left = "[^&=]*" if key is None else wildcard_regex(key, escapes=True).replace(".*", "[^&=]*")
        right = wildcard_regex(value, escapes=True).replace(".*", "[^&]*")
        return f"{left}={right}" if right else f"{left}=?"

    alternatives = "|".join(parameter(key, value) for key, value in pairs)
    return rf"(?i)[^?]*\?(?:.*&)?(?:{alternatives})(?:&.*)?"


def network_regex(cidr_block: str) -> str:
    """A regular expression for the dotted addresses of an IPv4 network."""
    network = ipaddress.ip_network(cidr_block, strict=False)
    if network.version != 4:
        raise NotHonoured(f"an IPv6 source-ip condition ({cidr_block})")
    octets = []
    for index, octet in enumerate(network.network_address.packed):
        free_bits = min(8, max(0, (index + 1) * 8 - network.prefixlen))
        if free_bits == 8:
            octets.append("[0-9]+")
        else:
            octets.append("|".join(str(octet + offset) for offset in range(2**free_bits)))
    return r"\.".join(f"(?:{octet})" for octet in octets)


def _forward(
    action: Forward, rewrite: UrlRewrite | None, load_balancer: LoadBalancer, cluster_name: Callable[[str], str]
) -> Json:
    result: Json = {
        # An ALB has no timeout for a whole request, only an idle timeout.
        "timeout": "0s",
        "idle_timeout": f"{load_balancer.idle_timeout_seconds}s",
        "cluster_not_found_response_code": "SERVICE_UNAVAILABLE",
    }
    if len(action.target_groups) == 1:
        result["cluster"] = cluster_name(action.target_groups[0].arn)
    else:
        result["weighted_clusters"] = {
            "clusters": [{"name": cluster_name(group.arn), "weight": group.weight} for group in action.target_groups]
        }
    if rewrite:
        result["regex_rewrite"] = {
            "pattern": {"regex": rewrite.regex},
            # `$1` is RE2's `\1`.
            "substitution": re.sub(r"\$([0-9])", r"\\\1", rewrite.replace.replace("\\", "\\\\")),
        }
    return result


def _redirect(action: Redirect, listener: Listener, edge_port: Callable[[int], int]) -> Json:
    scheme = listener.protocol if action.protocol == "#{protocol}" else action.protocol
    port = listener.port if action.port == "#{port}" else int(action.port)
    result: Json = {
        "scheme_redirect": scheme.lower(),
        "port_redirect": edge_port(port),
        "response_code": {301: "MOVED_PERMANENTLY", 302: "FOUND"}[action.status_code],
    }
    if action.host != "#{host}":
        result["host_redirect"] = action.host
    if action.query == "":
        result["strip_query"] = True
    if "#{path}" not in action.path:
        path = action.path if action.path.startswith("/") else f"/{action.path}"
        result["path_redirect"] = f"{path}?{action.query}" if action.query not in ("", "#{query}") else path
    elif action.path != "/#{path}":
        before, _, after = action.path.partition("#{path}")
        result["regex_rewrite"] = {
            "pattern": {"regex": "^/(.*)$"},
            "substitution": before.replace("\\", "\\\\") + "\\1" + after.replace("\\", "\\\\"),
        }
    return result


def _server_header(listener: Listener) -> list[Json]:
    if listener.attributes.get("routing.http.response.server.enabled") == "false":
        return []
    return [_set_header("Server", SERVER)]


def _set_header(name: str, value: str) -> Json:
    return {
        "header": {"key": name, "value": value.replace("%", "%%")},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
