"""Load balancers, listeners, rules, target groups and targets: values that never change; a change is a new value.

A load balancer holds its listeners, a listener its rules. `store.py` keeps them, `reading.py` makes them from requests,
`describing.py` turns them into answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


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
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Listener:
    arn: str
    port: int
    protocol: str
    rules: tuple[Rule, ...]
    """By priority, the default rule last."""
    certificate_arn: str | None = None
    certificate_names: tuple[str, ...] = ()
    """The domain names of the certificate."""
    ssl_policy: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    lets_visitors_in: bool = True
    """The load balancer's security groups open its port. Set by the data plane, not remembered."""

    @property
    def id(self) -> str:
        """The last part of the ARN, unique within the region."""
        return self.arn.rpartition("/")[2]

    @property
    def load_balancer_arn(self) -> str:
        return self.arn.rpartition("/")[0].replace(":listener/", ":loadbalancer/")

    def with_rule(self, rule: Rule) -> Listener:
        """The same with a rule more, or with `rule` in the place of the one with its ARN."""
        return self.with_rules(*(each for each in self.rules if each.arn != rule.arn), rule)

    def with_rules(self, *rules: Rule) -> Listener:
        """The same with these rules, in the order of their priorities."""
        ordered = sorted(rules, key=lambda rule: float("inf") if rule.priority is None else rule.priority)
        return replace(self, rules=tuple(ordered))


class LoadBalancerState(StrEnum):
    """`State.Code` of DescribeLoadBalancers, as far as the region knows it.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_LoadBalancerState.html
    """

    PROVISIONING = "provisioning"
    ACTIVE = "active"
    FAILED = "failed"


class LoadBalancerEvent(StrEnum):
    """What happens to a load balancer in the data plane."""

    CONFIGURED = "Envoy is configured for it"
    NO_ADDRESS = "its subnets have no free address"


_NEXT_STATES = {
    (LoadBalancerState.PROVISIONING, LoadBalancerEvent.CONFIGURED): LoadBalancerState.ACTIVE,
    (LoadBalancerState.PROVISIONING, LoadBalancerEvent.NO_ADDRESS): LoadBalancerState.FAILED,
    (LoadBalancerState.FAILED, LoadBalancerEvent.CONFIGURED): LoadBalancerState.ACTIVE,
}


def state_after(state: LoadBalancerState, event: LoadBalancerEvent) -> LoadBalancerState:
    """The state that follows; an active load balancer stays active."""
    return _NEXT_STATES.get((state, event), state)


@dataclass(frozen=True)
class Subnet:
    id: str
    zone: str
    """The name of its Availability Zone."""


@dataclass(frozen=True, kw_only=True)
class LoadBalancer:
    arn: str
    dns_name: str
    attributes: Mapping[str, str]
    listeners: tuple[Listener, ...] = ()
    scheme: str = "internet-facing"
    vpc_id: str = ""
    subnets: tuple[Subnet, ...] = ()
    security_groups: tuple[str, ...] = ()
    created_at: float = 0.0
    """Seconds since the epoch."""
    state: LoadBalancerState = LoadBalancerState.PROVISIONING
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.arn.split("/")[2]

    @property
    def full_name(self) -> str:
        """`app/<name>/<id>`, the LoadBalancer dimension of its metrics."""
        return self.arn.partition(":loadbalancer/")[2]

    @property
    def zones(self) -> int:
        """How many Availability Zones it is in: as many nodes check the targets on AWS."""
        return max(1, len({subnet.zone for subnet in self.subnets}))

    @property
    def address(self) -> str:
        """The loopback address on which it listens."""
        return self.dns_name.partition(":")[0]

    @property
    def idle_timeout_seconds(self) -> int:
        return int(self.attributes["idle_timeout.timeout_seconds"])

    def with_listener(self, listener: Listener) -> LoadBalancer:
        """The same with a listener more, or with `listener` in the place of the one with its ARN."""
        others = [each for each in self.listeners if each.arn != listener.arn]
        return replace(self, listeners=tuple(sorted([*others, listener], key=lambda each: each.port)))

    def target_groups(self) -> tuple[str, ...]:
        """The ARNs of the target groups that its rules forward to, each once."""
        rules = (rule for listener in self.listeners for rule in listener.rules)
        return tuple(dict.fromkeys(arn for rule in rules for arn in target_groups_of(rule.action)))


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


@dataclass(frozen=True)
class Target:
    address: str
    port: int


@dataclass(frozen=True, kw_only=True)
class TargetGroup:
    """Targets by IP address, and how they are checked."""

    arn: str
    port: int
    protocol: str
    health_check: HealthCheck
    attributes: Mapping[str, str]
    vpc_id: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.arn.split("/")[1]

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
            for arn in load_balancer.target_groups():
                result.setdefault(arn, []).append(load_balancer)
        return result


def target_groups_of(action: Action) -> tuple[str, ...]:
    """The ARNs of the target groups that an action forwards to."""
    return tuple(group.arn for group in action.target_groups) if isinstance(action, Forward) else ()
