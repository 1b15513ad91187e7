"""The records that RDS and ElastiCache have in common, and their store.

Member names of the two APIs differ in a prefix, DB or Cache. Writing an answer leaves out members that the model lacks
(`query_protocol`), so one description serves both APIs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar

from alva.region.aws_error import AwsError

Json = dict[str, Any]


@dataclass(kw_only=True)
class Record:
    """A named resource with tags."""

    name: str
    arn: str
    tags: dict[str, str] = field(default_factory=dict)

    def retag(self, before: Iterable[Json], after: Iterable[Json]) -> None:
        """Replace the tags of a template with those of another one; other tags are kept."""
        gone = tags_of(before)
        self.tags = {key: value for key, value in self.tags.items() if key not in gone} | tags_of(after)


@dataclass(kw_only=True)
class SubnetGroup(Record):
    """A DB subnet group or a cache subnet group."""

    description: str
    vpc_id: str
    zones: dict[str, str]
    """Subnet id -> its Availability Zone, in the order of the request."""

    def described(self, prefix: str) -> Json:
        """A DBSubnetGroup or CacheSubnetGroup."""
        return {
            f"{prefix}SubnetGroupName": self.name,
            f"{prefix}SubnetGroupDescription": self.description,
            f"{prefix}SubnetGroupArn": self.arn,
            "ARN": self.arn,
            "VpcId": self.vpc_id,
            "SubnetGroupStatus": "Complete",
            "SupportedNetworkTypes": ["IPV4" if prefix == "DB" else "ipv4"],
            "Subnets": [
                {"SubnetIdentifier": subnet, "SubnetAvailabilityZone": {"Name": zone}, "SubnetStatus": "Active"}
                for subnet, zone in self.zones.items()
            ],
        }


@dataclass(kw_only=True)
class ParameterGroup(Record):
    """A DB parameter group or a cache parameter group."""

    description: str
    family: str
    values: dict[str, str] = field(default_factory=dict)

    def described(self, prefix: str) -> Json:
        """A DBParameterGroup or CacheParameterGroup."""
        return {
            f"{prefix}ParameterGroupName": self.name,
            f"{prefix}ParameterGroupFamily": self.family,
            f"{prefix}ParameterGroupArn": self.arn,
            "ARN": self.arn,
            "IsGlobal": False,
            "Description": self.description,
        }


@dataclass(kw_only=True)
class EngineRecord(Record):
    """A DB instance or a replication group."""

    status: str = "creating"
    engine_version: str
    port: int
    subnet_group: str
    parameter_group: str
    security_groups: list[str]
    addresses: list[str] = field(default_factory=list)
    """The addresses of its network interfaces; empty until its servers are created."""
    zones: list[str] = field(default_factory=list)
    """The Availability Zones of its addresses; before, that of the template."""
    created_at: float
    """Seconds since the epoch."""
    shown: Json = field(default_factory=dict)
    """Members of the Describe answers that have no effect here."""


R = TypeVar("R", bound=EngineRecord)


class Store(ABC, Generic[R]):
    """The records of one service, in one account and region."""

    service: ClassVar[str]
    """The service's name in ARNs."""
    title: ClassVar[str]
    """The service's name in our messages."""
    sdk_name: ClassVar[str]
    """The service's name in CloudFormation's messages."""
    prefix: ClassVar[str]
    """The prefix of names in the service's API."""
    families: ClassVar[tuple[str, ...]]
    """The families of parameter groups."""
    kinds: ClassVar[Mapping[str, tuple[str, type[Record]]]]
    """Table -> the kind of resource in its ARNs, and the class of its records."""

    def __init__(self, account_id: str, region: str) -> None:
        self.account_id = account_id
        self.region = region
        self.engines: dict[str, R] = {}
        """The DB instances or replication groups; all tables have names as keys."""
        self.subnet_groups: dict[str, SubnetGroup] = {}
        self.parameter_groups = self._default_groups()

    def arn(self, table: str, name: str) -> str:
        """The ARN of a record of a table."""
        return f"arn:aws:{self.service}:{self.region}:{self.account_id}:{self.kinds[table][0]}:{name}"

    def subnet_group(self, name: str) -> SubnetGroup:
        """The subnet group of that name. Raises AwsError."""
        if name not in self.subnet_groups:
            message = f"{self.prefix} subnet group '{name}' does not exist."
            raise AwsError(f"{self.prefix}SubnetGroupNotFoundFault", message, 404)
        return self.subnet_groups[name]

    def parameter_group(self, name: str) -> ParameterGroup:
        """The parameter group of that name. Raises AwsError."""
        if name not in self.parameter_groups:
            message = f"{self.prefix}ParameterGroup not found: {name}"
            raise AwsError(f"{self.prefix}ParameterGroupNotFound", message, 404)
        return self.parameter_groups[name]

    def engine(self, name: str) -> R:
        """The DB instance or replication group of that name. Raises AwsError."""
        if name not in self.engines:
            raise self.no_engine(name)
        return self.engines[name]

    @abstractmethod
    def no_engine(self, name: str) -> AwsError:
        """The error for a name that no DB instance or replication group has."""

    def users_of(self, parameter_group: str) -> list[R]:
        """The DB instances or replication groups that have a parameter group."""
        return [each for each in self.engines.values() if each.parameter_group == parameter_group]

    def tagged(self, arn: str) -> Record:
        """The record of an ARN. Raises AwsError."""
        for table in self.kinds:
            for record in getattr(self, table).values():
                if record.arn == arn:
                    return record  # type: ignore[no-any-return]
        raise AwsError("InvalidParameterValue", f"The specified resource name does not exist: {arn}")

    # The region's persistence saves this state with the states of MiniStack's services.

    def get_state(self) -> Json:
        """The state as JSON values."""
        return {table: [asdict(record) for record in getattr(self, table).values()] for table in self.kinds}

    def load_persisted_state(self, data: Json) -> None:
        """Replace the state with a result of `get_state`, or with the format of an earlier version of alva."""
        self.reset()
        if "port_counter" in data:
            data = self.from_earlier_version({name: dict((table or {}).items()) for name, table in _tables(data)})
        for table, (_, kind) in self.kinds.items():
            getattr(self, table).update({record["name"]: kind(**record) for record in data[table]})

    def reset(self) -> None:
        """Delete all records but the default parameter groups."""
        for table in self.kinds:
            getattr(self, table).clear()
        self.parameter_groups.update(self._default_groups())

    def _default_groups(self) -> dict[str, ParameterGroup]:
        return {
            (name := f"default.{family}"): ParameterGroup(
                name=name,
                arn=self.arn("parameter_groups", name),
                description=f"Default parameter group for {family}",
                family=family,
            )
            for family in self.families
        }

    @abstractmethod
    def from_earlier_version(self, data: Mapping[str, Json]) -> Json:
        """Convert MiniStack's tables, the format of alva 0.x, to that of `get_state`."""

    def groups_from_earlier_version(self, data: Mapping[str, Json]) -> Json:
        """The subnet groups and parameter groups."""
        prefix = self.prefix

        def common(table: str, name: str, record: Json) -> Json:
            arn = self.arn(table, name)
            description = record.get(f"{prefix}SubnetGroupDescription", record.get("Description", ""))
            return {"name": name, "arn": arn, "description": description, "tags": tags_of(data["tags"].get(arn) or ())}

        return {
            "subnet_groups": [
                {
                    **common("subnet_groups", name, record),
                    "vpc_id": record["VpcId"],
                    "zones": {
                        each["SubnetIdentifier"]: each["SubnetAvailabilityZone"]["Name"] for each in record["Subnets"]
                    },
                }
                for name, record in data["subnet_groups"].items()
            ],
            "parameter_groups": [
                {
                    **common("parameter_groups", name, record),
                    "family": record[f"{prefix}ParameterGroupFamily"],
                    "values": {
                        parameter: str(value.get("ParameterValue", value.get("Value")))
                        for parameter, value in (
                            record.get("Parameters") or data.get("param_group_params", {}).get(name) or {}
                        ).items()
                        if value.get("Source") != "system"
                    },
                }
                for name, record in data["param_groups"].items()
                if not name.startswith("default.")
            ],
        }


def tags_of(listed: Iterable[Json] | None) -> dict[str, str]:
    """Tags of a request or a template as a dictionary."""
    return {tag["Key"]: str(tag.get("Value", "")) for tag in listed or ()}


def pairs(tags: Mapping[str, str]) -> list[Json]:
    """Tags as in an answer."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def is_true(value: Any) -> bool:
    """Whether a boolean property is true; in a template it may be text."""
    return str(value).lower() == "true"


def chosen(properties: Mapping[str, Any], names: Iterable[str], renamed: Mapping[str, str]) -> Json:
    """These properties of a template that are set, as members of the API."""
    found = ((renamed.get(name, name), properties.get(name)) for name in sorted(names))
    return {name: value for name, value in found if value not in (None, "")}


def seconds(moment: str | float) -> float:
    """A time in the format of alva 0.x, text or a number, in seconds since the epoch."""
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp() if isinstance(moment, str) else moment


def _tables(data: Json) -> Iterable[tuple[str, Any]]:
    return ((name, table) for name, table in data.items() if hasattr(table, "items"))
