"""The component `LoadBalancers`: what the rest of the region knows of load balancing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from alva.region.elb.target_health import NOT_REGISTERED, TargetHealth

if TYPE_CHECKING:
    from alva.region.certificates import Certificate
    from alva.region.server import Region


class LoadBalancers:
    """Target groups with true health, and one Envoy that serves every listener of the region.

    All methods are called on the event loop.
    """

    def __init__(self, region: Region) -> None:
        self._region = region

    def install(self) -> None:
        """Register the elbv2 calls and the CloudFormation types."""

    async def start(self) -> None:
        """Start Envoy and the health checks for what the restored records say."""

    async def stop(self) -> None:
        """Stop the health checks and Envoy; the records stay."""

    def register(self, target_group_arn: str, address: str, port: int) -> None:
        """Make address:port a target; a draining one becomes a new target again.

        Raises KeyError when there is no such target group.
        """

    def deregister(self, target_group_arn: str, address: str, port: int) -> None:
        """Start draining a target: no new request reaches it. Unknown targets and groups are ignored."""

    def health(self, target_group_arn: str, address: str, port: int) -> TargetHealth:
        """What DescribeTargetHealth would show of this target."""
        return NOT_REGISTERED

    def is_drained(self, target_group_arn: str, address: str, port: int) -> bool:
        """Whether a deregistered target may be stopped.

        True once the deregistration delay is over, or once Envoy has stopped routing to it and no request is in
        flight; also for what is not registered at all.
        """
        return True

    def tls_proxy(
        self, name: str, address: str, port: int, upstream_address: str, upstream_port: int, certificate: Certificate
    ) -> None:
        """Listen on address:port with TLS and pass the bytes on to upstream_address:upstream_port in plain text.

        `name` identifies the proxy; the same name again replaces it. It is served once Envoy runs, and again after a
        restart of Envoy, but not remembered over a restart of the region.
        """

    def remove_tls_proxy(self, name: str) -> None:
        """Stop listening; unknown names are ignored."""
