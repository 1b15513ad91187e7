"""The attributes of load balancers, target groups and listeners: honoured, without effect, or refused.

In the tables of honoured attributes, a tuple lists the honoured values; None stands for every value that AWS accepts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from alva.region.elb.refusals import Invalid, NotHonoured

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
    # Targets always get the client's Host with its port, which is part of the DNS name here.
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
LISTENER_DEFAULTS = {"routing.http.response.server.enabled": "true"}

_RANGES = {
    "idle_timeout.timeout_seconds": (1, 4000),
    "client_keep_alive.seconds": (60, 604800),
    "deregistration_delay.timeout_seconds": (0, 3600),
}


def check_attributes(
    attributes: Mapping[str, str], honoured: Mapping[str, tuple[str, ...] | None], without_effect: Iterable[str] = ()
) -> None:
    """Raise NotHonoured for an attribute or a value that the data plane does not support.

    Raises Invalid for a value that AWS refuses.
    """
    for key, value in attributes.items():
        _check_value(key, value)
        if key in honoured:
            accepted = honoured[key]
            if accepted is not None and value not in accepted:
                raise NotHonoured(f"attribute {key}={value} ({', '.join(accepted)} are honoured)")
        elif key not in without_effect:
            raise NotHonoured(f"attribute {key}")


def _check_value(key: str, value: str) -> None:
    if key in _RANGES:
        low, high = _RANGES[key]
        if not value.isdecimal() or not low <= int(value) <= high:
            raise Invalid(f"The value of '{key}' must be between {low} and {high} inclusive, not '{value}'")
    elif key.endswith(".enabled") and key != "load_balancing.cross_zone.enabled" and value not in ("true", "false"):
        raise Invalid(f"The value of '{key}' must be 'true' or 'false', not '{value}'")
