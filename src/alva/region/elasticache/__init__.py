"""ElastiCache: runs Valkey servers for MiniStack's records of replication groups.

parameters.py   pure: node type, parameter group and address -> Valkey's configuration
node.py         one Valkey server: its folder and process
caches.py       runs the nodes of each record
resources.py    AWS::ElastiCache::ReplicationGroup and ParameterGroup
component.py    the component, which installs all of them
"""

from alva.region.elasticache.component import CacheService

__all__ = ["CacheService"]
