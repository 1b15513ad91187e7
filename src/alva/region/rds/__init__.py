"""RDS: runs PostgreSQL 16 servers for MiniStack's records of DB instances.

parameters.py   pure: an instance class, a parameter group and an address in, PostgreSQL's configuration out
server.py       one PostgreSQL: its folder, its processes
databases.py    the component: which servers there are, kept in step with the records
resources.py    AWS::RDS::DBInstance and DBParameterGroup
api.py          the API's operations that act on a server
"""

from alva.region.rds.databases import Databases

__all__ = ["Databases"]
