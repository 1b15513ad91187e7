"""Resource types without a data plane that MiniStack lacks or gets wrong: one module each."""

from __future__ import annotations

import importlib

from alva.region.cloudformation.registry import Registry
from alva.region.cloudformation.store import StackRecords
from alva.region.cloudformation.types import wait_condition

MODULES = (
    "alarm", "budget", "elastic_ip", "nat_gateway", "oidc_provider", "query_definition", "scaling", "secret",
    "secret_attachment", "security_group_rule",
)  # fmt: skip


def register_all(registry: Registry, records: StackRecords) -> None:
    """Register them; types with a data plane are registered by their components."""
    for name in MODULES:
        importlib.import_module(f"{__name__}.{name}").register(registry)
    wait_condition.register(registry, records)
