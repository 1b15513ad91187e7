"""RDS: runs PostgreSQL 16 servers for MiniStack's records of DB instances.

parameters.py   pure: instance class, parameter group and address -> PostgreSQL's configuration
server.py       one PostgreSQL server: its folder and processes
databases.py    runs a server for each record
resources.py    AWS::RDS::DBInstance and DBParameterGroup
api.py          the API's operations that act on a server
component.py    the component, which installs all of them
"""

from alva.region.rds.component import DatabaseService

__all__ = ["DatabaseService"]
