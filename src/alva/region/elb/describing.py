"""Converts the records to responses of the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from alva.region.elb.records import (
    Action,
    Condition,
    FixedResponse,
    Forward,
    Listener,
    LoadBalancer,
    Redirect,
    Rule,
    TargetGroup,
)
from alva.region.elb.target_health import TargetHealth

Json = dict[str, Any]

HOSTED_ZONE_ID = "Z35SXDOTRQ7X7K"
"""The hosted zone id of Application Load Balancers in us-east-1.
https://docs.aws.amazon.com/general/latest/gr/elb.html"""

CONDITION_CONFIGS = {
    "path-pattern": "PathPatternConfig",
    "host-header": "HostHeaderConfig",
    "http-header": "HttpHeaderConfig",
    "http-request-method": "HttpRequestMethodConfig",
    "query-string": "QueryStringConfig",
    "source-ip": "SourceIpConfig",
}
"""The member with the values of a condition, by its field."""


def load_balancer(record: LoadBalancer) -> Json:
    """A LoadBalancer."""
    return {
        "LoadBalancerArn": record.arn,
        "LoadBalancerName": record.name,
        "DNSName": record.dns_name,
        "CanonicalHostedZoneId": HOSTED_ZONE_ID,
        "CreatedTime": record.created_at,
        "Scheme": record.scheme,
        "VpcId": record.vpc_id,
        "State": {"Code": record.state.value},
        "Type": "application",
        "AvailabilityZones": availability_zones(record),
        "SecurityGroups": list(record.security_groups),
        "IpAddressType": "ipv4",
    }


def availability_zones(record: LoadBalancer) -> list[Json]:
    """The AvailabilityZones of a load balancer."""
    return [{"ZoneName": subnet.zone, "SubnetId": subnet.id, "LoadBalancerAddresses": []} for subnet in record.subnets]


def target_group(record: TargetGroup, load_balancer_arns: Iterable[str]) -> Json:
    """A TargetGroup."""
    check = record.health_check
    return {
        "TargetGroupArn": record.arn,
        "TargetGroupName": record.name,
        "Protocol": record.protocol,
        "Port": record.port,
        "VpcId": record.vpc_id,
        "HealthCheckProtocol": check.protocol,
        "HealthCheckPort": check.port,
        "HealthCheckEnabled": True,
        "HealthCheckIntervalSeconds": check.interval_seconds,
        "HealthCheckTimeoutSeconds": check.timeout_seconds,
        "HealthyThresholdCount": check.healthy_threshold,
        "UnhealthyThresholdCount": check.unhealthy_threshold,
        "HealthCheckPath": check.path,
        "Matcher": {"HttpCode": check.matcher},
        "LoadBalancerArns": list(load_balancer_arns),
        "TargetType": "ip",
        "ProtocolVersion": "HTTP1",
        "IpAddressType": "ipv4",
    }


def listener(record: Listener) -> Json:
    """A Listener."""
    return {
        "ListenerArn": record.arn,
        "LoadBalancerArn": record.load_balancer_arn,
        "Port": record.port,
        "Protocol": record.protocol,
        "Certificates": [{"CertificateArn": record.certificate_arn}] if record.certificate_arn else None,
        "SslPolicy": record.ssl_policy,
        "DefaultActions": [_action(each.action) for each in record.rules if each.priority is None],
    }


def rule(record: Rule) -> Json:
    """A Rule."""
    rewrite = record.url_rewrite
    rewrites = [{"Regex": rewrite.regex, "Replace": rewrite.replace}] if rewrite else []
    return {
        "RuleArn": record.arn,
        "Priority": "default" if record.priority is None else str(record.priority),
        "Conditions": [_condition(each) for each in record.conditions],
        "Actions": [_action(record.action)],
        "IsDefault": record.priority is None,
        "Transforms": [{"Type": "url-rewrite", "UrlRewriteConfig": {"Rewrites": rewrites}}] if rewrites else [],
    }


def _action(record: Action) -> Json:
    match record:
        case Forward():
            groups = [{"TargetGroupArn": each.arn, "Weight": each.weight} for each in record.target_groups]
            config = {"TargetGroups": groups, "TargetGroupStickinessConfig": {"Enabled": False}}
            single = {"TargetGroupArn": groups[0]["TargetGroupArn"]} if len(groups) == 1 else {}
            return {"Type": "forward", **single, "ForwardConfig": config}
        case Redirect():
            return {
                "Type": "redirect",
                "RedirectConfig": {
                    "Protocol": record.protocol,
                    "Port": record.port,
                    "Host": record.host,
                    "Path": record.path,
                    "Query": record.query,
                    "StatusCode": f"HTTP_{record.status_code}",
                },
            }
        case FixedResponse():
            return {
                "Type": "fixed-response",
                "FixedResponseConfig": {
                    "MessageBody": record.body or None,
                    "StatusCode": str(record.status_code),
                    "ContentType": record.content_type,
                },
            }


def _condition(record: Condition) -> Json:
    """A condition in its typed form, and with the `Values` of the older form if it has that form."""
    if record.field == "query-string":
        return {
            "Field": record.field,
            "QueryStringConfig": {"Values": [{"Key": key, "Value": value} for key, value in record.pairs]},
        }
    config: Json = {"Values": list(record.values)}
    if record.header_name is not None:
        return {"Field": record.field, "HttpHeaderConfig": {"HttpHeaderName": record.header_name, **config}}
    return {"Field": record.field, **config, CONDITION_CONFIGS[record.field]: config}


def target(address: str, port: int, health_check_port: str, health: TargetHealth) -> Json:
    """A TargetHealthDescription."""
    return {
        "Target": {"Id": address, "Port": port},
        "HealthCheckPort": str(port) if health_check_port == "traffic-port" else health_check_port,
        "TargetHealth": {
            "State": health.state.value,
            "Reason": health.reason,
            "Description": health.description,
        },
    }


def pairs(values: Mapping[str, str]) -> list[Json]:
    """Attributes or tags."""
    return [{"Key": key, "Value": value} for key, value in values.items()]
