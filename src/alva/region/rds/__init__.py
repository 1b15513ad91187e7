"""RDS: the API, and a PostgreSQL 16 server for each DB instance.

parameters.py   pure: instance class, parameter group and address -> PostgreSQL's configuration
server.py       one PostgreSQL server: its folder and processes
records.py      DB instances and snapshots, their descriptions and their store
databases.py    runs a server for each record
resources.py    the resource types
api.py          the API
component.py    the component, which installs all of them
The `engine_*` modules have what ElastiCache has too: groups, tags, the store, addresses.
"""

from alva.region.rds.component import DatabaseService

__all__ = ["DatabaseService"]
