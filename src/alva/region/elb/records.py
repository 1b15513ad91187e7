"""Load balancers, listeners, rules and target groups as the data plane knows them; `reading.py` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


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
    lets_visitors_in: bool = True
    """The load balancer's security groups open its port."""

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
