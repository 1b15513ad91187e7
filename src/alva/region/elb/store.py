"""The state of the elbv2 API: all records, look-ups with AWS's errors, and conversion to and from JSON.

The saved form is that of API responses (`describing.py`), which `reading.py` reads like requests.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from alva.region import query_protocol
from alva.region.elb import describing, reading
from alva.region.elb.attributes import LISTENER_DEFAULTS, LOAD_BALANCER_DEFAULTS, TARGET_GROUP_DEFAULTS
from alva.region.elb.records import (
    Listener,
    LoadBalancer,
    LoadBalancerEvent,
    LoadBalancerState,
    Records,
    Rule,
    Subnet,
    Target,
    TargetGroup,
    state_after,
)
from alva.region.elb.refusals import Invalid

Json = dict[str, Any]


@dataclass
class Store:
    """The records of one account in one region."""

    account_id: str
    region: str
    load_balancers: dict[str, LoadBalancer] = field(default_factory=dict)
    """By ARN, like all of these."""
    target_groups: dict[str, TargetGroup] = field(default_factory=dict)
    targets: dict[str, list[Target]] = field(default_factory=dict)
    """The registered targets of each target group, by its ARN, without draining ones."""

    def new_arn(self, kind: str, *parts: str) -> str:
        """An ARN with a new id at its end: `new_arn("targetgroup", name)`."""
        path = "/".join((kind, *parts, secrets.token_hex(8)))
        return f"arn:aws:elasticloadbalancing:{self.region}:{self.account_id}:{path}"

    # Look-ups. As on AWS, a malformed ARN and an unknown one have different errors.

    def load_balancer(self, arn: str) -> LoadBalancer:
        """The load balancer of that ARN. Raises Invalid (LoadBalancerNotFound, ValidationError)."""
        _check_arn(arn, "loadbalancer", "load balancer")
        if arn not in self.load_balancers:
            raise Invalid(f"Load balancer '{arn}' not found", "LoadBalancerNotFound")
        return self.load_balancers[arn]

    def target_group(self, arn: str) -> TargetGroup:
        """The target group of that ARN. Raises Invalid (TargetGroupNotFound, ValidationError)."""
        _check_arn(arn, "targetgroup", "target group")
        if arn not in self.target_groups:
            raise Invalid(f"Target group '{arn}' not found", "TargetGroupNotFound")
        return self.target_groups[arn]

    def listener(self, arn: str) -> Listener:
        """The listener of that ARN. Raises Invalid (ListenerNotFound, ValidationError)."""
        _check_arn(arn, "listener", "listener")
        found = next((each for each in self.listeners() if each.arn == arn), None)
        if found is None:
            raise Invalid(f"Listener '{arn}' not found", "ListenerNotFound")
        return found

    def rule(self, arn: str) -> tuple[Listener, Rule]:
        """The rule of that ARN and its listener. Raises Invalid (RuleNotFound, ValidationError)."""
        _check_arn(arn, "listener-rule", "listener rule")
        for listener in self.listeners():
            for rule in listener.rules:
                if rule.arn == arn:
                    return listener, rule
        raise Invalid(f"Rule '{arn}' not found", "RuleNotFound")

    def listeners(self) -> Iterator[Listener]:
        """All listeners."""
        return (listener for balancer in self.load_balancers.values() for listener in balancer.listeners)

    def users_of(self, target_group_arn: str) -> list[str]:
        """The ARNs of the load balancers that forward to a target group, by any rule."""
        return [arn for arn, each in self.load_balancers.items() if target_group_arn in each.target_groups()]

    def records(self) -> Records:
        """The input of the data plane."""
        return Records(tuple(self.load_balancers.values()), dict(self.target_groups))

    # Changes

    def put_listener(self, listener: Listener) -> None:
        """Add a listener to its load balancer, or replace the one with its ARN."""
        balancer = self.load_balancers[listener.load_balancer_arn]
        self.load_balancers[balancer.arn] = balancer.with_listener(listener)

    def happened(self, load_balancer_arn: str, event: LoadBalancerEvent) -> bool:
        """Set the state of a load balancer after an event; returns whether it changed."""
        balancer = self.load_balancers.get(load_balancer_arn)
        if balancer is None:
            return False
        state = state_after(balancer.state, event)
        self.load_balancers[balancer.arn] = replace(balancer, state=state)
        return state is not balancer.state

    def set_zones(self, recorded: Mapping[str, Mapping[str, Any]]) -> None:
        """Set unknown zones of subnets from EC2's records: an earlier version of alva did not save them."""
        for balancer in list(self.load_balancers.values()):
            subnets = tuple(
                each if each.zone else Subnet(each.id, recorded.get(each.id, {}).get("AvailabilityZone", ""))
                for each in balancer.subnets
            )
            self.load_balancers[balancer.arn] = replace(balancer, subnets=subnets)

    # Conversion to and from JSON

    def as_json(self) -> Json:
        """The state as JSON values."""
        return {
            "load_balancers": [
                {
                    "described": describing.load_balancer(balancer),
                    "attributes": dict(balancer.attributes),
                    "tags": dict(balancer.tags),
                    "listeners": [
                        {
                            "described": describing.listener(listener),
                            "certificate_names": list(listener.certificate_names),
                            "attributes": dict(listener.attributes),
                            "tags": dict(listener.tags),
                            "rules": [
                                {"described": describing.rule(rule), "tags": dict(rule.tags)} for rule in listener.rules
                            ],
                        }
                        for listener in balancer.listeners
                    ],
                }
                for balancer in self.load_balancers.values()
            ],
            "target_groups": [
                {
                    "described": describing.target_group(group, ()),
                    "attributes": dict(group.attributes),
                    "tags": dict(group.tags),
                    "targets": [[target.address, target.port] for target in self.targets.get(group.arn, ())],
                }
                for group in self.target_groups.values()
            ],
        }

    def restore(self, saved: Json) -> None:
        """Replace the state with a result of `as_json`, or with the format of an earlier version of alva."""
        self.clear()
        if "load_balancers" not in saved:
            saved = _from_earlier_version(saved)
        for item in saved["target_groups"]:
            group = _restored_target_group(item)
            self.target_groups[group.arn] = group
            if item["targets"]:
                self.targets[group.arn] = [Target(address, int(port)) for address, port in item["targets"]]
        for item in saved["load_balancers"]:
            balancer = _restored_load_balancer(item)
            self.load_balancers[balancer.arn] = balancer

    def clear(self) -> None:
        """Delete all records."""
        for records in (self.load_balancers, self.target_groups, self.targets):
            records.clear()


def _check_arn(arn: str, kind: str, name: str) -> None:
    parts = arn.split(":", 5)
    is_valid = len(parts) == 6 and parts[:3] == ["arn", "aws", "elasticloadbalancing"]
    if not is_valid or not parts[5].startswith(f"{kind}/"):
        raise Invalid(f"'{arn}' is not a valid {name} ARN")


def _restored_target_group(item: Json) -> TargetGroup:
    described = item["described"]
    return TargetGroup(
        arn=described["TargetGroupArn"],
        port=int(described["Port"]),
        protocol=described["Protocol"],
        vpc_id=described.get("VpcId") or "",
        health_check=reading.described_health_check(described, reading.DEFAULT_HEALTH_CHECK),
        attributes=TARGET_GROUP_DEFAULTS | item["attributes"],
        tags=item["tags"],
    )


def _restored_load_balancer(item: Json) -> LoadBalancer:
    described = item["described"]
    return LoadBalancer(
        arn=described["LoadBalancerArn"],
        dns_name=described["DNSName"],
        scheme=described["Scheme"],
        vpc_id=described.get("VpcId") or "",
        subnets=tuple(Subnet(zone["SubnetId"], zone["ZoneName"]) for zone in described["AvailabilityZones"]),
        security_groups=tuple(described["SecurityGroups"]),
        created_at=float(described["CreatedTime"]),
        state=LoadBalancerState(described["State"]["Code"]),
        attributes=LOAD_BALANCER_DEFAULTS | item["attributes"],
        tags=item["tags"],
        listeners=tuple(_restored_listener(each) for each in item["listeners"]),
    )


def _restored_listener(item: Json) -> Listener:
    described = item["described"]
    certificates = described.get("Certificates") or [{}]
    listener = Listener(
        arn=described["ListenerArn"],
        port=int(described["Port"]),
        protocol=described["Protocol"],
        certificate_arn=certificates[0].get("CertificateArn"),
        certificate_names=tuple(item["certificate_names"]),
        ssl_policy=described.get("SslPolicy"),
        attributes=LISTENER_DEFAULTS | item["attributes"],
        tags=item["tags"],
        rules=(),
    )
    return listener.with_rules(*(_restored_rule(each) for each in item["rules"]))


def _restored_rule(item: Json) -> Rule:
    described = item["described"]
    return Rule(
        arn=described["RuleArn"],
        priority=None if described["IsDefault"] else int(described["Priority"]),
        conditions=reading.conditions(described["Conditions"]) if described["Conditions"] else (),
        action=reading.action(described["Actions"]),
        url_rewrite=reading.url_rewrite(described.get("Transforms") or ()),
        tags=item["tags"],
    )


# The format of alva 0.x, which is MiniStack's: tables by ARN, attributes and tags as lists of pairs.


def _from_earlier_version(saved: Mapping[str, Any]) -> Json:
    def table(name: str) -> dict[str, Any]:
        return dict((saved.get(name) or {}).items())

    tags, targets = table("_tags"), table("_targets")
    rules, listeners = table("_rules").values(), table("_listeners").values()
    listener_attributes, attributes, group_attributes = table("_listener_attrs"), table("_lb_attrs"), table("_tg_attrs")
    return {
        "load_balancers": [
            {
                "described": {
                    **balancer,
                    "State": {"Code": balancer["State"]},
                    "CreatedTime": datetime.fromisoformat(balancer["CreatedTime"].replace("Z", "+00:00")).timestamp(),
                    "AvailabilityZones": [{"SubnetId": subnet, "ZoneName": ""} for subnet in balancer["Subnets"]],
                },
                "attributes": _pairs(attributes.get(arn)),
                "tags": _pairs(tags.get(arn)),
                "listeners": [
                    {
                        "described": {
                            **listener,
                            "Certificates": [{"CertificateArn": each} for each in listener.get("Certificates") or ()],
                        },
                        "certificate_names": [],
                        "attributes": _pairs(listener_attributes.get(listener["ListenerArn"])),
                        "tags": _pairs(tags.get(listener["ListenerArn"])),
                        "rules": [
                            {
                                "described": {"IsDefault": False, "Conditions": [], **rule, "Actions": _typed(rule)},
                                "tags": _pairs(tags.get(rule["RuleArn"])),
                            }
                            for rule in rules
                            if rule["ListenerArn"] == listener["ListenerArn"]
                        ],
                    }
                    for listener in listeners
                    if listener["LoadBalancerArn"] == arn
                ],
            }
            for arn, balancer in table("_lbs").items()
        ],
        "target_groups": [
            {
                "described": group,
                "attributes": _pairs(group_attributes.get(arn)),
                "tags": _pairs(tags.get(arn)),
                "targets": [[target["Id"], target["Port"]] for target in targets.get(arn) or ()],
            }
            for arn, group in table("_tgs").items()
        ],
    }


def _typed(rule: Mapping[str, Any]) -> Any:
    """The actions of a rule; their numbers and booleans were saved as text."""
    request = {"ListenerArn": "", "Priority": 1, "Conditions": [], "Actions": rule["Actions"]}
    form = query_protocol.flatten(request)
    return query_protocol.parse(query_protocol.service_model("elbv2"), "CreateRule", form)["Actions"]


def _pairs(listed: Any) -> dict[str, str]:
    return {item["Key"]: str(item["Value"]) for item in listed or ()}
