"""ElastiCache: runs Valkey servers for MiniStack's records of replication groups.

parameters.py   pure: node type, parameter group and address -> Valkey's configuration
node.py         one Valkey server: its folder and process
caches.py       the component, which runs the nodes of each record
resources.py    AWS::ElastiCache::ReplicationGroup and ParameterGroup
"""

from alva.region.elasticache.caches import Caches

__all__ = ["Caches"]
