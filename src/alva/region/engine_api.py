"""The actions that RDS and ElastiCache have in common: subnet groups, parameter groups, tags."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from alva.region.aws_error import AwsError
from alva.region.control_plane import ControlPlane
from alva.region.engine_records import EngineRecord, Json, ParameterGroup, Record, Store, SubnetGroup, pairs, tags_of
from alva.region.query_api import READS, Call, QueryApi

R = TypeVar("R", bound=EngineRecord)


@dataclass(frozen=True, kw_only=True)
class EngineParameters:
    """The parameters of the engine of a service."""

    known: Callable[[], Awaitable[Mapping[str, bool]]]
    """Returns their names, and whether a change of each needs a restart."""
    defaults: Mapping[str, str]
    """Values of parameters that a parameter group does not set."""


class CommonApi(Generic[R]):
    """The common actions."""

    def __init__(self, store: Store[R], parameters: EngineParameters) -> None:
        self.store = store
        self._prefix = store.prefix
        self.parameters = parameters

    def calls(self) -> dict[str, Call]:
        """The actions by name."""
        return {name: partial(function, self) for name, function in actions(self._prefix).items()}

    # Subnet groups

    async def create_subnet_group(self, request: Json) -> Json:
        """CreateDBSubnetGroup, CreateCacheSubnetGroup."""
        name = request[f"{self._prefix}SubnetGroupName"]
        if name in self.store.subnet_groups:
            message = f"The {self._prefix} subnet group '{name}' already exists."
            raise AwsError(f"{self._prefix}SubnetGroupAlreadyExists", message)
        vpc_id, zones = await self._placed(request["SubnetIds"])
        group = SubnetGroup(
            name=name,
            arn=self.store.arn("subnet_groups", name),
            tags=tags_of(request.get("Tags")),
            description=request[f"{self._prefix}SubnetGroupDescription"],
            vpc_id=vpc_id,
            zones=zones,
        )
        self.store.subnet_groups[name] = group
        return self._subnet_group(group)

    async def modify_subnet_group(self, request: Json) -> Json:
        """ModifyDBSubnetGroup, ModifyCacheSubnetGroup."""
        group = self.store.subnet_group(request[f"{self._prefix}SubnetGroupName"])
        if request.get("SubnetIds"):
            group.vpc_id, group.zones = await self._placed(request["SubnetIds"])
        group.description = request.get(f"{self._prefix}SubnetGroupDescription", group.description)
        return self._subnet_group(group)

    def delete_subnet_group(self, request: Json) -> Json:
        """DeleteDBSubnetGroup, DeleteCacheSubnetGroup."""
        name = self.store.subnet_group(request[f"{self._prefix}SubnetGroupName"]).name
        for user in self.store.engines.values():
            if user.subnet_group == name:
                code = "InvalidDBSubnetGroupStateFault" if self._prefix == "DB" else "CacheSubnetGroupInUse"
                raise AwsError(code, f"Cannot delete the subnet group '{name}' because {user.name} is still using it.")
        del self.store.subnet_groups[name]
        return {}

    def describe_subnet_groups(self, request: Json) -> Json:
        """DescribeDBSubnetGroups, DescribeCacheSubnetGroups."""
        name = request.get(f"{self._prefix}SubnetGroupName")
        groups = [self.store.subnet_group(name)] if name else self.store.subnet_groups.values()
        return {f"{self._prefix}SubnetGroups": [group.described(self._prefix) for group in groups]}

    def _subnet_group(self, group: SubnetGroup) -> Json:
        return {f"{self._prefix}SubnetGroup": group.described(self._prefix)}

    async def _placed(self, subnet_ids: list[str]) -> tuple[str, dict[str, str]]:
        """The VPC and the Availability Zones of subnets. Raises AwsError."""
        found = await subnets(self.store, subnet_ids)
        if len(found) < len(set(subnet_ids)) or len({each["VpcId"] for each in found}) != 1:
            raise AwsError("InvalidSubnet", "Some input subnets in :[" + ", ".join(subnet_ids) + "] are invalid.")
        zones = {str(each["SubnetId"]): str(each["AvailabilityZone"]) for each in found}
        if self._prefix == "DB" and len(set(zones.values())) < 2:
            raise AwsError(
                "DBSubnetGroupDoesNotCoverEnoughAZs",
                "The DB subnet group doesn't meet Availability Zone (AZ) coverage requirement. "
                f"Current AZ coverage: {', '.join(zones.values())}. Add subnets to cover at least 2 AZs.",
            )
        return str(found[0]["VpcId"]), zones

    # Parameter groups

    def create_parameter_group(self, request: Json) -> Json:
        """CreateDBParameterGroup, CreateCacheParameterGroup."""
        name, family = request[f"{self._prefix}ParameterGroupName"], request[f"{self._prefix}ParameterGroupFamily"]
        if name in self.store.parameter_groups:
            raise AwsError(f"{self._prefix}ParameterGroupAlreadyExists", f"Parameter group {name} already exists")
        if family not in self.store.families:
            raise AwsError(
                "InvalidParameterValue",
                f"ParameterGroupFamily {family} is not a valid parameter group family in the local region, which has "
                + ", ".join(self.store.families),
            )
        group = ParameterGroup(
            name=name,
            arn=self.store.arn("parameter_groups", name),
            tags=tags_of(request.get("Tags")),
            description=request["Description"],
            family=family,
        )
        self.store.parameter_groups[name] = group
        return {f"{self._prefix}ParameterGroup": group.described(self._prefix)}

    def delete_parameter_group(self, request: Json) -> Json:
        """DeleteDBParameterGroup, DeleteCacheParameterGroup."""
        name = self.store.parameter_group(request[f"{self._prefix}ParameterGroupName"]).name
        if name.startswith("default."):
            message = f"Default {self._prefix}ParameterGroup cannot be deleted: {name}"
            raise AwsError(f"Invalid{self._prefix}ParameterGroupState", message)
        for user in self.store.users_of(name):
            raise AwsError(
                f"Invalid{self._prefix}ParameterGroupState",
                f"{user.name} is still a member of this parameter group {name}, so the group cannot be deleted",
            )
        del self.store.parameter_groups[name]
        return {}

    def describe_parameter_groups(self, request: Json) -> Json:
        """DescribeDBParameterGroups, DescribeCacheParameterGroups."""
        name = request.get(f"{self._prefix}ParameterGroupName")
        groups = [self.store.parameter_group(name)] if name else self.store.parameter_groups.values()
        return {f"{self._prefix}ParameterGroups": [group.described(self._prefix) for group in groups]}

    async def describe_parameters(self, request: Json) -> Json:
        """DescribeDBParameters, DescribeCacheParameters."""
        values = self.store.parameter_group(request[f"{self._prefix}ParameterGroupName"]).values
        default = "engine-default" if self._prefix == "DB" else "system"
        parameters = [
            {
                "ParameterName": name,
                "ParameterValue": values.get(name, self.parameters.defaults.get(name)),
                "Source": "user" if name in values else default,
                "ApplyType": "static" if is_static else "dynamic",
                "ApplyMethod": "pending-reboot" if is_static else "immediate",
                "ChangeType": "requires-reboot" if is_static else "immediate",
                "IsModifiable": True,
            }
            for name, is_static in sorted((await self.parameters.known()).items())
        ]
        wanted = request.get("Source")
        return {"Parameters": [each for each in parameters if not wanted or each["Source"] == wanted]}

    # Tags

    def add_tags(self, request: Json) -> Json:
        """AddTagsToResource."""
        record = self.store.tagged(request["ResourceName"])
        record.tags |= tags_of(request["Tags"])
        return _tags(record)

    def remove_tags(self, request: Json) -> Json:
        """RemoveTagsFromResource."""
        record = self.store.tagged(request["ResourceName"])
        record.tags = {key: value for key, value in record.tags.items() if key not in request["TagKeys"]}
        return _tags(record)

    def list_tags(self, request: Json) -> Json:
        """ListTagsForResource."""
        return _tags(self.store.tagged(request["ResourceName"]))


async def subnets(store: Store[Any], ids: Collection[str]) -> list[Json]:
    """The subnets that exist among these, in their order, as DescribeSubnets returns them."""
    control_plane = ControlPlane(store.account_id, store.region)
    answer = await control_plane.call("ec2", "DescribeSubnets", Filters=[{"Name": "subnet-id", "Values": list(ids)}])
    found = {each["SubnetId"]: each for each in answer["Subnets"]}
    return [found[each] for each in ids if each in found]


def actions(prefix: str) -> dict[str, Callable[[CommonApi[Any], Json], Json | Awaitable[Json]]]:
    """The common actions of the API whose names have this prefix."""
    return {
        f"Create{prefix}SubnetGroup": CommonApi.create_subnet_group,
        f"Modify{prefix}SubnetGroup": CommonApi.modify_subnet_group,
        f"Delete{prefix}SubnetGroup": CommonApi.delete_subnet_group,
        f"Describe{prefix}SubnetGroups": CommonApi.describe_subnet_groups,
        f"Create{prefix}ParameterGroup": CommonApi.create_parameter_group,
        f"Delete{prefix}ParameterGroup": CommonApi.delete_parameter_group,
        f"Describe{prefix}ParameterGroups": CommonApi.describe_parameter_groups,
        f"Describe{prefix}Parameters": CommonApi.describe_parameters,
        "AddTagsToResource": CommonApi.add_tags,
        "RemoveTagsFromResource": CommonApi.remove_tags,
        "ListTagsForResource": CommonApi.list_tags,
    }


class EngineApi(QueryApi, Generic[R]):
    """The API of a service, and the state that is saved."""

    def __init__(
        self,
        common: CommonApi[R],
        nothing: CommonApi[R],
        descriptions: Mapping[str, Callable[[Any, Json], Json]],
        changes: Mapping[str, Call],
        refused: Collection[str],
    ) -> None:
        """`descriptions` are called with the store. `nothing`, with an empty store, answers for other accounts and
        regions. The refusal of the actions in `refused` names CloudFormation.
        """
        store = common.store

        def calls(api: CommonApi[R]) -> dict[str, Call]:
            return {**api.calls(), **{name: partial(call, api.store) for name, call in descriptions.items()}}

        def not_offered(action: str, where: str) -> AwsError:
            hint = ": use CloudFormation" if action in refused else ""
            return AwsError("InvalidAction", f"the local region does not have {store.title} {action}{where}{hint}")

        elsewhere = {name: call for name, call in calls(nothing).items() if name.startswith(READS)}
        home = (store.account_id, store.region)
        super().__init__(store.service, home, {**calls(common), **changes}, elsewhere, not_offered)
        self.get_state, self.load_persisted_state, self.reset = store.get_state, store.load_persisted_state, store.reset


def _tags(record: Record) -> Json:
    return {"TagList": pairs(record.tags)}
