"""ElastiCache: runs Valkey servers for MiniStack's records of replication groups.

parameters.py   pure: a node type, a parameter group and an address in, Valkey's configuration out
node.py         one Valkey: its folder, its process
caches.py       the component: which nodes there are, kept in step with the records
resources.py    AWS::ElastiCache::ReplicationGroup and ParameterGroup
"""

from alva.region.elasticache.caches import Caches

__all__ = ["Caches"]
