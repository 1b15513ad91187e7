"""What the other components use of the load balancers: targets with health, and proxies that end TLS.

`alva.region.elb` has the implementation.
"""

from __future__ import annotations

from typing import Protocol

from alva.region.certificates import Certificate
from alva.region.network import Namespace


class Health(Protocol):
    """The health of one target, as in DescribeTargetHealth."""

    @property
    def state(self) -> str: ...

    @property
    def reason(self) -> str | None: ...

    @property
    def description(self) -> str | None: ...


class LoadBalancing(Protocol):
    """The methods are called on the event loop; `LoadBalancers` documents them."""

    def register(self, target_group_arn: str, address: str, port: int) -> None: ...

    def deregister(self, target_group_arn: str, address: str, port: int) -> None: ...

    def health(self, target_group_arn: str, address: str, port: int) -> Health: ...

    def is_drained(self, target_group_arn: str, address: str, port: int) -> bool: ...

    def tls_proxy(
        self,
        name: str,
        address: str,
        port: int,
        upstream_address: str,
        upstream_port: int,
        certificate: Certificate,
        namespace: Namespace | None = None,
    ) -> None: ...

    def remove_tls_proxy(self, name: str) -> None: ...

    def security_groups_may_have_changed(self) -> None: ...
