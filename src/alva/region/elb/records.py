"""Load balancers, listeners, rules, target groups and targets, as immutable values.

A load balancer holds its listeners, a listener its rules. `store.py` keeps them, `reading.py` creates them from
requests, `describing.py` converts them to responses.
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
    """`values` are patterns, one of which must match; for a query string, pairs of an optional key and a value."""

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
    admits_clients: bool = True
    """Whether the load balancer's security groups open its port. Set by the data plane, not saved."""

    @property
    def id(self) -> str:
        """The last part of the ARN, unique within the region."""
        return self.arn.rpartition("/")[2]

    @property
    def load_balancer_arn(self) -> str:
        return self.arn.rpartition("/")[0].replace(":listener/", ":loadbalancer/")

    def with_rule(self, rule: Rule) -> Listener:
        """A copy in which `rule` is added, or replaces the rule with its ARN."""
        return self.with_rules(*(each for each in self.rules if each.arn != rule.arn), rule)

    def with_rules(self, *rules: Rule) -> Listener:
        """A copy with these rules, in the order of their priorities."""
        ordered = sorted(rules, key=lambda rule: float("inf") if rule.priority is None else rule.priority)
        return replace(self, rules=tuple(ordered))


class LoadBalancerState(StrEnum):
    """The values of `State.Code` in DescribeLoadBalancers that the region uses.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_LoadBalancerState.html
    """

    PROVISIONING = "provisioning"
    ACTIVE = "active"
    FAILED = "failed"


class LoadBalancerEvent(StrEnum):
    """An event of a load balancer in the data plane."""

    CONFIGURED = "Envoy is configured for it"
    NO_ADDRESS = "its subnets have no free address"


_NEXT_STATES = {
    (LoadBalancerState.PROVISIONING, LoadBalancerEvent.CONFIGURED): LoadBalancerState.ACTIVE,
    (LoadBalancerState.PROVISIONING, LoadBalancerEvent.NO_ADDRESS): LoadBalancerState.FAILED,
    (LoadBalancerState.FAILED, LoadBalancerEvent.CONFIGURED): LoadBalancerState.ACTIVE,
}


def state_after(state: LoadBalancerState, event: LoadBalancerEvent) -> LoadBalancerState:
    """The state after an event; an active load balancer stays active."""
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
        """The number of its Availability Zones, which is the number of nodes that check targets on AWS."""
        return max(1, len({subnet.zone for subnet in self.subnets}))

    @property
    def address(self) -> str:
        """The loopback address on which it listens."""
        return self.dns_name.partition(":")[0]

    @property
    def idle_timeout_seconds(self) -> int:
        return int(self.attributes["idle_timeout.timeout_seconds"])

    def with_listener(self, listener: Listener) -> LoadBalancer:
        """A copy in which `listener` is added, or replaces the listener with its ARN."""
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
    """A target group of IP addresses, with its health check."""

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
    """The input of the data plane."""

    load_balancers: tuple[LoadBalancer, ...] = ()
    target_groups: Mapping[str, TargetGroup] = field(default_factory=dict)
    """By ARN."""

    def attached(self) -> dict[str, list[LoadBalancer]]:
        """The load balancers that route to each target group, by the group's ARN; a group without one is unused."""
        result: dict[str, list[LoadBalancer]] = {}
        for load_balancer in self.load_balancers:
            for arn in load_balancer.target_groups():
                result.setdefault(arn, []).append(load_balancer)
        return result


def target_groups_of(action: Action) -> tuple[str, ...]:
    """The ARNs of the target groups that an action forwards to."""
    return tuple(group.arn for group in action.target_groups) if isinstance(action, Forward) else ()
