"""ElastiCache: the API, and Valkey servers for each replication group.

parameters.py   pure: node type, parameter group and address -> Valkey's configuration
node.py         one Valkey server: its folder and process
records.py      replication groups, their descriptions and their store
caches.py       runs the nodes of each record
resources.py    the resource types
api.py          the API
component.py    the component, which installs all of them
The `engine_*` modules have what RDS has too: groups, tags, the store, addresses.
"""

from alva.region.elasticache.component import CacheService

__all__ = ["CacheService"]
