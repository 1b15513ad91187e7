"""The resource types that MiniStack lacks or gets wrong and that have no data plane: one module each."""

from __future__ import annotations


def register_all() -> None:
    """Register them; types with a data plane are registered by their components."""
    from alva.region.cloudformation.types import (
        alarm,
        budget,
        elastic_ip,
        nat_gateway,
        oidc_provider,
        query_definition,
        scaling,
        secret,
        security_group_rule,
    )

    for module in (
        alarm,
        budget,
        elastic_ip,
        nat_gateway,
        oidc_provider,
        query_definition,
        scaling,
        secret,
        security_group_rule,
    ):
        module.register()
