"""The resource types of subnet groups and parameter groups of RDS and ElastiCache, provisioned through `engine_api`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from ministack.core.responses import get_account_id, get_region

from alva.region.aws_error import AwsError
from alva.region.cloudformation.handler_failure import HandlerFailed
from alva.region.cloudformation.physical_names import physical_name
from alva.region.cloudformation.registry import Handlers, Properties, Provisioned, Registry
from alva.region.engine_api import CommonApi
from alva.region.engine_records import EngineRecord, Store

R = TypeVar("R", bound=EngineRecord)
Values = Mapping[str, str]


class GroupTypes(Generic[R]):
    """AWS::RDS::DBSubnetGroup and DBParameterGroup, or AWS::ElastiCache::SubnetGroup and ParameterGroup."""

    def __init__(
        self,
        api: CommonApi[R],
        check: Callable[[Values], Awaitable[None]],
        changed: Callable[[str, Values], Awaitable[None]],
    ) -> None:
        """`check` raises AwsError for parameters that the engine does not have. `changed` is called with the name of a
        parameter group and the parameters that have changed.
        """
        self._store, self._prefix = api.store, api.store.prefix
        self._api = api
        self._check = check
        self._changed = changed

    def register(self, registry: Registry, namespace: str) -> None:
        """Register both types, whose names begin with `namespace`."""
        registry.register(
            f"{namespace}SubnetGroup",
            Handlers(create=self.create_subnet_group, update=self.update_subnet_group, delete=self.delete_subnet_group),
        )
        registry.register(
            f"{namespace}ParameterGroup",
            Handlers(
                create=self.create_parameter_group,
                update=self.update_parameter_group,
                delete=self.delete_parameter_group,
            ),
        )

    async def create_subnet_group(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        with provisioning(self._store):
            name = self._name("SubnetGroup", logical_id, properties, stack_name)
            await self._api.create_subnet_group(self._subnet_group(name, properties) | {"Tags": properties.get("Tags")})
        return self._provisioned_subnet_group(name)

    async def update_subnet_group(
        self, physical_id: str, old: Properties, new: Properties, stack_name: str
    ) -> Provisioned:
        del stack_name
        with provisioning(self._store):
            await self._api.modify_subnet_group(self._subnet_group(physical_id, new))
            self._store.subnet_group(physical_id).retag(old.get("Tags") or (), new.get("Tags") or ())
        return self._provisioned_subnet_group(physical_id)

    async def delete_subnet_group(self, physical_id: str, properties: Properties) -> None:
        del properties
        if physical_id in self._store.subnet_groups:
            with provisioning(self._store):
                self._api.delete_subnet_group({f"{self._prefix}SubnetGroupName": physical_id})

    async def create_parameter_group(self, logical_id: str, properties: Properties, stack_name: str) -> Provisioned:
        with provisioning(self._store):
            await self._check(_values(properties))
            name = self._name("ParameterGroup", logical_id, properties, stack_name)
            self._api.create_parameter_group(
                {
                    f"{self._prefix}ParameterGroupName": name,
                    f"{self._prefix}ParameterGroupFamily": properties.get("Family")
                    or properties.get("CacheParameterGroupFamily"),
                    "Description": properties.get("Description", ""),
                    "Tags": properties.get("Tags"),
                }
            )
            self._store.parameter_group(name).values = _values(properties)
        return self._provisioned_parameter_group(name)

    async def update_parameter_group(
        self, physical_id: str, old: Properties, new: Properties, stack_name: str
    ) -> Provisioned:
        del stack_name
        before, after = _values(old), _values(new)
        with provisioning(self._store):
            await self._check(after)
            group = self._store.parameter_group(physical_id)
            group.values, group.description = after, new.get("Description", "")
            group.retag(old.get("Tags") or (), new.get("Tags") or ())
        changed = {name: after.get(name, "") for name in {*before, *after} if before.get(name) != after.get(name)}
        await self._changed(physical_id, changed)
        return self._provisioned_parameter_group(physical_id)

    async def delete_parameter_group(self, physical_id: str, properties: Properties) -> None:
        del properties
        if physical_id in self._store.parameter_groups:
            with provisioning(self._store):
                self._api.delete_parameter_group({f"{self._prefix}ParameterGroupName": physical_id})

    def _name(self, kind: str, logical_id: str, properties: Properties, stack_name: str) -> str:
        name: str | None = properties.get(f"{self._prefix}{kind}Name")
        return name or physical_name(stack_name, logical_id, lowercase=True)

    def _subnet_group(self, name: str, properties: Properties) -> dict[str, Any]:
        key = f"{self._prefix}SubnetGroupDescription"
        return {
            f"{self._prefix}SubnetGroupName": name,
            key: properties.get(key, properties.get("Description", "")),
            "SubnetIds": properties.get("SubnetIds") or [],
        }

    def _provisioned_subnet_group(self, name: str) -> Provisioned:
        group = self._store.subnet_group(name)
        return name, {"DBSubnetGroupArn": group.arn} if self._prefix == "DB" else {}

    def _provisioned_parameter_group(self, name: str) -> Provisioned:
        group = self._store.parameter_group(name)
        arn = {"DBParameterGroupArn": group.arn} if self._prefix == "DB" else {}
        return name, {f"{self._prefix}ParameterGroupName": name, **arn}


@contextmanager
def provisioning(store: Store[Any]) -> Iterator[None]:
    """Raise HandlerFailed outside the account and region of the records, and for an AwsError."""
    if (get_account_id(), get_region()) != (store.account_id, store.region):
        where = f"outside account {store.account_id} and region {store.region}"
        raise HandlerFailed(f"the local region does not have {store.title} {where}", "InvalidRequest")
    try:
        yield
    except AwsError as error:
        code = next((code for code in ("NotFound", "AlreadyExists") if code in error.code), "InvalidRequest")
        raise HandlerFailed(f"{error} (Service: {store.sdk_name}, Status Code: {error.status})", code) from error


def _values(properties: Properties) -> dict[str, str]:
    """The parameters of a template; booleans are in lower case, as in the API."""
    values: Mapping[str, Any] = properties.get("Parameters") or properties.get("Properties") or {}
    return {str(key): str(value).lower() if isinstance(value, bool) else str(value) for key, value in values.items()}
