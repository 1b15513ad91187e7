"""Listeners.

https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_CreateListener.html
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from alva.region.elb import describing
from alva.region.elb.attributes import LISTENER_ATTRIBUTES, LISTENER_DEFAULTS, check_attributes
from alva.region.elb.calls.support import Json, attributes_of, page, read_action, tags_of
from alva.region.elb.records import Listener, Rule
from alva.region.elb.refusals import Invalid, NotHonoured
from alva.region.elb.store import Store

CertificateNames = Callable[[str], Awaitable[tuple[str, ...] | None]]
"""The domain names of an ACM certificate, by its ARN; None where there is none."""

SERVED_PORTS = (80, 443)
DEFAULT_SSL_POLICY = "ELBSecurityPolicy-2016-08"
"""The policy of listeners that the API creates without one."""

_SSL_POLICIES = re.compile(
    "ELBSecurityPolicy-(2016-08|FS-2018-06|TLS-1-[0-2]-20[0-9-]+|TLS-1-2-Ext-2018-06|FS-1-[12](-Res)?-20[0-9-]+"
    "|TLS13-1-[0-3](-Res|-Ext[0-2])?(-FIPS|-PQ|-FIPS-PQ)*-20[0-9-]+)"
)
"""https://docs.aws.amazon.com/elasticloadbalancing/latest/application/describe-ssl-policies.html"""


async def create_listener(store: Store, certificate_names: CertificateNames, request: Json) -> Json:
    """CreateListener. It returns an existing listener with the same settings."""
    settings = await _settings(request, None, certificate_names)
    balancer = store.load_balancer(request["LoadBalancerArn"])
    action = read_action(store, request["DefaultActions"], balancer.arn, settings["protocol"])
    arn = store.new_arn("listener", "app", balancer.name, balancer.arn.rpartition("/")[2])
    wanted = Listener(
        arn=arn,
        rules=(Rule(arn=_rule_arn(store, arn), priority=None, action=action),),
        attributes=dict(LISTENER_DEFAULTS),
        tags=tags_of(request),
        **settings,
    )
    existing = next((each for each in balancer.listeners if each.port == wanted.port), None)
    if existing is None:
        store.put_listener(wanted)
    elif _comparable(existing) != _comparable(wanted):
        raise Invalid(
            f"A listener already exists on this port for this load balancer '{balancer.arn}'", "DuplicateListener"
        )
    return {"Listeners": [describing.listener(existing or wanted)]}


def describe_listeners(store: Store, request: Json) -> Json:
    """DescribeListeners: by ARNs, or all of a load balancer."""
    arns, balancer = request.get("ListenerArns"), request.get("LoadBalancerArn")
    if bool(arns) == bool(balancer):
        raise Invalid("You must specify either listener ARNs or a load balancer ARN")
    found = [store.listener(arn) for arn in arns] if arns else list(store.load_balancer(balancer or "").listeners)
    return page("Listeners", found, request, lambda each: each.arn, describing.listener)


async def modify_listener(store: Store, certificate_names: CertificateNames, request: Json) -> Json:
    """ModifyListener: settings that the request does not name stay unchanged; default actions replace the old ones."""
    settings = await _settings(request, store.listener(request["ListenerArn"]), certificate_names)
    listener = store.listener(request["ListenerArn"])
    changed = replace(listener, **settings)
    balancer = store.load_balancer(listener.load_balancer_arn)
    if any(each.port == changed.port and each.arn != changed.arn for each in balancer.listeners):
        raise Invalid("A listener already exists on this port for this load balancer", "DuplicateListener")
    if request.get("DefaultActions"):
        default = next(rule for rule in listener.rules if rule.priority is None)
        action = read_action(store, request["DefaultActions"], balancer.arn, changed.protocol)
        changed = changed.with_rule(replace(default, action=action))
    store.put_listener(changed)
    return {"Listeners": [describing.listener(changed)]}


def delete_listener(store: Store, request: Json) -> Json:
    """DeleteListener, with its rules."""
    listener = store.listener(request["ListenerArn"])
    balancer = store.load_balancer(listener.load_balancer_arn)
    others = tuple(each for each in balancer.listeners if each.arn != listener.arn)
    store.load_balancers[balancer.arn] = replace(balancer, listeners=others)
    return {}


def describe_listener_attributes(store: Store, request: Json) -> Json:
    """DescribeListenerAttributes."""
    return {"Attributes": describing.pairs(store.listener(request["ListenerArn"]).attributes)}


def modify_listener_attributes(store: Store, request: Json) -> Json:
    """ModifyListenerAttributes: the other attributes keep their values."""
    listener = store.listener(request["ListenerArn"])
    given = attributes_of(request)
    check_attributes(given, LISTENER_ATTRIBUTES)
    store.put_listener(replace(listener, attributes={**listener.attributes, **given}))
    return describe_listener_attributes(store, request)


def _rule_arn(store: Store, listener_arn: str) -> str:
    return store.new_arn("listener-rule", *listener_arn.split("/")[1:])


def _comparable(listener: Listener) -> Listener:
    """The settings that a request can make: those without their own ARN."""
    defaults = tuple(replace(rule, arn="") for rule in listener.rules if rule.priority is None)
    return replace(listener, arn="", rules=defaults, attributes={})


async def _settings(request: Json, current: Listener | None, certificate_names: CertificateNames) -> dict[str, Any]:
    """The port, protocol, certificate and policy that a listener has after a request."""
    port = request.get("Port") or (current.port if current else None)
    protocol = request.get("Protocol") or (current.protocol if current else None)
    if port is None:
        raise Invalid("A port must be specified")
    if protocol is None:
        raise Invalid("A protocol must be specified")
    if protocol not in ("HTTP", "HTTPS"):
        raise Invalid(f"Listener protocol '{protocol}' must be one of 'HTTP, HTTPS'")
    if port not in SERVED_PORTS:
        raise NotHonoured(f"a listener on port {port} (80 and 443 are honoured)")
    if (request.get("MutualAuthentication") or {}).get("Mode", "off") != "off":
        raise NotHonoured("mutual TLS")
    if request.get("AlpnPolicy"):
        raise NotHonoured("an ALPN policy")
    certificates = request.get("Certificates") or []
    if protocol == "HTTP":
        if certificates or request.get("SslPolicy"):
            raise Invalid("Certificates and an SSL policy can be specified for HTTPS listeners only")
        return {
            "port": port,
            "protocol": protocol,
            "certificate_arn": None,
            "certificate_names": (),
            "ssl_policy": None,
        }
    return {"port": port, "protocol": protocol, **await _tls(request, certificates, current, certificate_names)}


async def _tls(
    request: Json,
    certificates: list[Mapping[str, Any]],
    current: Listener | None,
    certificate_names: CertificateNames,
) -> dict[str, Any]:
    policy = request.get("SslPolicy") or (current and current.ssl_policy) or DEFAULT_SSL_POLICY
    if not _SSL_POLICIES.fullmatch(policy):
        raise Invalid(f"SSL policy '{policy}' not found", "SSLPolicyNotFound")
    if not certificates and current is not None and current.certificate_arn:
        return {"ssl_policy": policy}
    if not certificates:
        raise Invalid("A certificate must be specified for HTTPS listeners", "CertificateNotFound")
    if len(certificates) > 1:
        raise Invalid("You can specify one default certificate")
    arn = certificates[0].get("CertificateArn") or ""
    names = await certificate_names(arn)
    if names is None:
        raise Invalid(f"Certificate '{arn}' not found", "CertificateNotFound")
    return {"certificate_arn": arn, "certificate_names": names, "ssl_policy": policy}
