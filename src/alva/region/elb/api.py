"""The elbv2 calls of MiniStack, corrected: nothing is stored that the data plane would not serve.

What MiniStack lacks or loses, and this module adds: weighted forwards and query-string conditions; the errors that AWS
gives for a taken priority, a second listener on a port, a target group in use; targets by address and port with their
true health; the load balancers of a target group; a DNS name that leads here. Everything else stays MiniStack's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ministack.core.responses import get_region
from ministack.services import alb, ec2

from alva.region.elb import query
from alva.region.elb.attributes import LOAD_BALANCER_DEFAULTS, TARGET_GROUP_DEFAULTS
from alva.region.elb.checks import CHECKS, check_load_balancer, check_target_group
from alva.region.elb.reading import read_action
from alva.region.elb.records import target_groups_of
from alva.region.elb.refusals import Invalid, NotHonoured
from alva.region.elb.target_health import TargetHealth

if TYPE_CHECKING:
    from alva.region.elb.load_balancers import LoadBalancers

Answer = tuple[int, dict[str, str], bytes]
HOSTED_ZONE_ID = "Z35SXDOTRQ7X7K"
"""Of Application Load Balancers in us-east-1.
https://docs.aws.amazon.com/general/latest/gr/elb.html"""

Handler = Callable[[Mapping[str, Any]], Answer]

REPLACED_CALLS = (
    "CreateLoadBalancer",
    "CreateTargetGroup",
    "DeleteLoadBalancer",
    "RegisterTargets",
    "DeregisterTargets",
    "DescribeTargetHealth",
)
"""The calls whose answer is the region's own; those in `checks.CHECKS` are checked first and then MiniStack's."""

_original: dict[str, Handler] = {}


def install(load_balancers: LoadBalancers) -> None:
    """Put the corrections into MiniStack, in place of those of an earlier region in this process."""
    if not _original:
        _original.update(alb._ACTION_MAP)
    alb._parse_actions = lambda params, prefix="DefaultActions": query.members(params, prefix)
    alb._parse_conditions = lambda params, prefix="Conditions": query.members(params, prefix)
    alb._action_xml = lambda action: f"<member>{query.to_xml(_described_action(action))}</member>"
    alb._lb_xml = lambda record: f"<member>{query.to_xml(_described_load_balancer(record))}</member>"
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

    for name, check in CHECKS.items():
        alb._ACTION_MAP[name] = answering(then_serve(name, check))

    def create_load_balancer(params: Mapping[str, Any]) -> Answer:
        check_load_balancer(params)
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
        check_target_group(params)
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


def _described_load_balancer(record: Mapping[str, Any]) -> dict[str, Any]:
    """A load balancer with the zone of each of its subnets; MiniStack shows one zone for all."""
    zones = [
        {
            "ZoneName": (ec2._subnets.get(subnet) or {}).get("AvailabilityZone", f"{get_region()}a"),
            "SubnetId": subnet,
            "LoadBalancerAddresses": [],
        }
        for subnet in record.get("Subnets", ())
    ]
    return {
        "LoadBalancerArn": record["LoadBalancerArn"],
        "LoadBalancerName": record["LoadBalancerName"],
        "DNSName": record["DNSName"],
        "CanonicalHostedZoneId": HOSTED_ZONE_ID,
        "CreatedTime": record["CreatedTime"],
        "Scheme": record["Scheme"],
        "VpcId": _vpc_of(record),
        "State": {"Code": record["State"]},
        "Type": record["Type"],
        "AvailabilityZones": zones,
        "SecurityGroups": list(record.get("SecurityGroups", ())),
        "IpAddressType": record.get("IpAddressType", "ipv4"),
    }


def _vpc_of(record: Mapping[str, Any]) -> str:
    for subnet in record.get("Subnets", ()):
        if subnet in ec2._subnets:
            return str(ec2._subnets[subnet]["VpcId"])
    return str(record.get("VpcId", ""))


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
