"""The metrics of a cache node, in the namespace AWS/ElastiCache, from the engine's INFO and /proc.

https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/CacheMetrics.Redis.html
Metrics have the dimension CacheClusterId; AWS's copies with CacheNodeId are not published. Counters are differences.
"""

from __future__ import annotations

from collections.abc import Mapping

from alva.region import engine_metrics
from alva.region.engine_metrics import Data, Usage

NAMESPACE = "AWS/ElastiCache"
VCPUS = 2
"""The number of CPUs of every known node type."""

# Metric -> the counter of INFO whose difference it is.
_COUNTERS: Mapping[str, str] = {
    "Evictions": "evicted_keys",
    "Reclaimed": "expired_keys",
    "NewConnections": "total_connections_received",
    "CacheHits": "keyspace_hits",
    "CacheMisses": "keyspace_misses",
}

Info = Mapping[str, str]


def read_info(text: str) -> dict[str, str]:
    """The fields of INFO's answer."""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))


def data(before: tuple[Usage, Info], now: tuple[Usage, Info], *, memory_bytes: int) -> Data:
    """The values to publish; `memory_bytes` is the node type's memory."""
    (usage_before, info_before), (usage, info) = before, now
    limit = int(info["maxmemory"])
    counters: Data = {
        # A smaller counter was reset: the engine has restarted.
        name: (_growth(info_before, info, field), "Count")
        for name, field in _COUNTERS.items()
    }
    return {
        **counters,
        "CPUUtilization": (engine_metrics.cpu_percent(usage_before, usage, VCPUS), "Percent"),
        "EngineCPUUtilization": (engine_metrics.cpu_percent(usage_before, usage, 1), "Percent"),
        "BytesUsedForCache": (float(info["used_memory"]), "Bytes"),
        "DatabaseMemoryUsagePercentage": (100 * int(info["used_memory"]) / limit if limit else 0.0, "Percent"),
        "FreeableMemory": (float(max(0, memory_bytes - usage.memory_bytes)), "Bytes"),
        "CurrConnections": (float(info["connected_clients"]), "Count"),
        "CurrItems": (float(_items(info)), "Count"),
    }


def _growth(before: Info, now: Info, field: str) -> float:
    earlier, later = int(before.get(field, 0)), int(now[field])
    return float(later - earlier if later >= earlier else later)


def _items(info: Info) -> int:
    """The number of keys in all databases: `db0:keys=2,expires=0,...`."""
    return sum(
        int(value.partition("keys=")[2].partition(",")[0])
        for name, value in info.items()
        if name.startswith("db") and name[2:].isdigit()
    )
