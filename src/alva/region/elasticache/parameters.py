"""Computes Valkey's configuration from the node type, the parameter group and the AUTH tokens, as ElastiCache does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# maxmemory of each node type (ElastiCache User Guide, "Node-type specific parameters").
NODE_MAXMEMORY: Mapping[str, int] = {
    "cache.t3.micro": 536870912, "cache.t3.small": 1471026299, "cache.t3.medium": 3317862236,
    "cache.t4g.micro": 536870912, "cache.t4g.small": 1471026299, "cache.t4g.medium": 3317862236,
    "cache.m5.large": 6854542746, "cache.m6g.large": 6854542746, "cache.m7g.large": 6854542746,
    "cache.r5.large": 14037181030, "cache.r6g.large": 14037181030, "cache.r7g.large": 14037181030,
}  # fmt: skip

# ElastiCache's own defaults, where they are not the engine's (family redis7).
DEFAULTS: Mapping[str, str] = {"maxmemory-policy": "volatile-lru", "reserved-memory-percent": "25"}
# Parameters of ElastiCache that the engine does not have.
OWN = frozenset({"reserved-memory-percent", "reserved-memory", "cluster-enabled", "close-on-slave-write"})
# The parameters of the family redis7 (ElastiCache User Guide, "Redis OSS parameters").
MODIFIABLE = OWN | {
    "acllog-max-len", "active-defrag-cycle-max", "active-defrag-cycle-min", "active-defrag-ignore-bytes",
    "active-defrag-max-scan-fields", "active-defrag-threshold-lower", "active-defrag-threshold-upper", "activedefrag",
    "activerehashing", "client-query-buffer-limit", "databases", "hash-max-listpack-entries",
    "hash-max-listpack-value", "hll-sparse-max-bytes", "latency-tracking", "lazyfree-lazy-eviction",
    "lazyfree-lazy-expire", "lazyfree-lazy-server-del", "lazyfree-lazy-user-del", "lazyfree-lazy-user-flush",
    "lfu-decay-time", "lfu-log-factor", "list-compress-depth", "list-max-listpack-size", "maxmemory-clients",
    "maxmemory-policy", "maxmemory-samples", "min-replicas-max-lag", "min-replicas-to-write",
    "notify-keyspace-events", "proto-max-bulk-len", "repl-backlog-size", "repl-backlog-ttl", "repl-timeout",
    "set-max-intset-entries", "slowlog-log-slower-than", "slowlog-max-len", "stream-node-max-bytes",
    "stream-node-max-entries", "tcp-keepalive", "timeout", "tracking-table-max-keys", "zset-max-listpack-entries",
    "zset-max-listpack-value",
}  # fmt: skip

# ElastiCache User Guide, "Supported and restricted commands": these answer "unknown command".
RESTRICTED = (
    "acl", "bgrewriteaof", "bgsave", "cluster", "config", "debug", "failover", "migrate", "module", "pfdebug", "psync",
    "replicaof", "save", "shutdown", "slaveof", "sync",
)  # fmt: skip
# A replica sends these to its primary.
OF_REPLICAS = ("psync", "sync")


@dataclass(frozen=True, kw_only=True)
class Node:
    """The settings of one Valkey: its plain-text address, its primary, and its limits."""

    address: str
    port: int
    node_type: str
    tokens: Sequence[str] = ()
    primary: tuple[str, int] | None = None
    has_replicas: bool = False
    own_name: str = ""
    """The renamed CONFIG and ACL, which only the region can call."""


def maxmemory(node_type: str, values: Mapping[str, str]) -> int:
    """The memory for data, in bytes: the node's memory without the reserved share (default 25 %).

    Raises ValueError with the known node types for an unknown one.
    """
    if node_type not in NODE_MAXMEMORY:
        raise ValueError(
            f"Invalid Cache Node Type: {node_type}. The local region knows {', '.join(sorted(NODE_MAXMEMORY))}"
        )
    percent = int(values.get("reserved-memory-percent", DEFAULTS["reserved-memory-percent"]))
    return NODE_MAXMEMORY[node_type] * (100 - percent) // 100


def check_names(values: Mapping[str, str]) -> None:
    """Raise ValueError, in ElastiCache's words, for a parameter that the family does not have."""
    for name in values:
        if name not in MODIFIABLE:
            raise ValueError(f"Could not find parameter with name: {name}")


def runtime_settings(node_type: str, values: Mapping[str, str]) -> dict[str, str]:
    """The settings that can change while the engine runs: its own parameters and the memory limit."""
    merged = {**DEFAULTS, **values}
    settings = {name: value for name, value in merged.items() if name not in OWN and name != "databases"}
    return {**settings, "maxmemory": str(maxmemory(node_type, values))}


def user_rules(tokens: Sequence[str]) -> list[str]:
    """The ACL of the default user. Each token is a password; without tokens it needs none."""
    passwords = [f">{token}" for token in tokens] or ["nopass"]
    return ["reset", "on", *passwords, "~*", "&*", "+@all"]


def configuration(node: Node, values: Mapping[str, str]) -> str:
    """The text of valkey.conf."""
    lines = [
        f"bind {node.address}",
        f"port {node.port}",
        "protected-mode no",
        "dir /data",
        # The append-only file keeps data across a restart of the region, which must not look like a node's failure.
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "shutdown-timeout 2",
        f"user default {' '.join(user_rules(node.tokens))}",
        *(f"{name} {_quoted(value)}" for name, value in runtime_settings(node.node_type, values).items()),
    ]
    if "databases" in values:
        lines.append(f"databases {values['databases']}")
    if node.primary is not None:
        lines += [f"replicaof {node.primary[0]} {node.primary[1]}", "replica-read-only yes"]
        if node.tokens:
            lines += [f"primaryauth {_quoted(node.tokens[-1])}"]
    for command in RESTRICTED:
        if command in OF_REPLICAS and (node.has_replicas or node.primary):
            continue
        name = f"{node.own_name}-{command}" if command in ("config", "acl") else '""'
        lines.append(f"rename-command {command} {name}")
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
