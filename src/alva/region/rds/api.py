"""The RDS API.

DB instances are created, changed and deleted only through CloudFormation: the API's operations for that are refused.
"""

from __future__ import annotations

import asyncio
import contextvars
import shutil
from collections.abc import Awaitable, Callable
from functools import partial

from alva.region import engine_api
from alva.region.aws_error import AwsError
from alva.region.engine_api import CommonApi, EngineApi, EngineParameters
from alva.region.engine_records import Json, tags_of
from alva.region.query_api import Call
from alva.region.rds import parameters
from alva.region.rds.databases import Databases
from alva.region.rds.records import DBInstance, RdsStore

REFUSED = frozenset({
    "CreateDBInstance", "DeleteDBInstance", "ModifyDBInstance", "CreateDBInstanceReadReplica", "PromoteReadReplica",
    "RestoreDBInstanceFromDBSnapshot", "RestoreDBInstanceToPointInTime", "RestoreDBInstanceFromS3", "CreateDBCluster",
    "ModifyDBCluster", "DeleteDBCluster", "RestoreDBClusterFromSnapshot", "CreateGlobalCluster", "CreateDBProxy",
    "CopyDBSnapshot", "ModifyDBParameterGroup", "ResetDBParameterGroup", "CreateBlueGreenDeployment",
})  # fmt: skip
"""Operations whose refusal names CloudFormation; all others without a function below are refused, too."""

STATES = {
    "RebootDBInstance": ("available", "rebooting"),
    "StopDBInstance": ("available", "stopping"),
    "StartDBInstance": ("stopped", "starting"),
}
"""Operation -> the required state of the instance, and its state meanwhile."""


def describe_instances(store: RdsStore, request: Json) -> Json:
    """DescribeDBInstances."""
    name = request.get("DBInstanceIdentifier")
    found = [store.engine(name.rpartition(":")[2])] if name else store.engines.values()
    filters = _filters(request, "db-instance-id", "dbi-resource-id", "engine")
    return {
        "DBInstances": [
            _described(store, each)
            for each in found
            if _passes(filters, {"db-instance-id": {each.name, each.arn}, "dbi-resource-id": {each.resource_id}})
        ]
    }


def describe_snapshots(store: RdsStore, request: Json) -> Json:
    """DescribeDBSnapshots."""
    name, instance = request.get("DBSnapshotIdentifier"), request.get("DBInstanceIdentifier")
    found = [store.snapshot(name.rpartition(":")[2])] if name else store.snapshots.values()
    filters = _filters(request, "db-instance-id", "db-snapshot-id", "snapshot-type", "engine")
    return {
        "DBSnapshots": [
            each.described()
            for each in found
            if instance in (None, each.instance)
            and request.get("SnapshotType") in (None, "manual")
            and _passes(
                filters,
                {
                    "db-instance-id": {each.instance},
                    "db-snapshot-id": {each.name, each.arn},
                    "snapshot-type": {"manual"},
                },
            )
        ]
    }


async def change_state(databases: Databases, action: str, request: Json) -> Json:
    """RebootDBInstance, which applies static parameters, StopDBInstance and StartDBInstance.

    The work continues after the response. A stopped instance stays stopped when the region restarts.
    """
    before, status = STATES[action]
    record = _in_state(databases, request, before)
    record.status = status
    record.is_stopped = status == "stopping"
    databases.region.background.spawn(
        f"change {record}",
        databases.stop_server(record) if status == "stopping" else databases.restart(record, status),
        context=contextvars.copy_context(),
    )
    return {"DBInstance": _described(databases.store, record)}


async def create_snapshot(databases: Databases, request: Json) -> Json:
    """CreateDBSnapshot: returns when the copy is complete."""
    record, name = _in_state(databases, request, "available", "stopped"), request["DBSnapshotIdentifier"]
    if name in databases.store.snapshots:
        raise AwsError(
            "DBSnapshotAlreadyExists",
            f"Cannot create the snapshot because a snapshot with the identifier {name} already exists.",
        )
    snapshot = await databases.snapshot(record, name)
    snapshot.tags |= tags_of(request.get("Tags"))
    return {"DBSnapshot": snapshot.described()}


async def delete_snapshot(databases: Databases, request: Json) -> Json:
    """DeleteDBSnapshot, with its data."""
    snapshot = databases.store.snapshot(request["DBSnapshotIdentifier"])
    del databases.store.snapshots[snapshot.name]
    await asyncio.to_thread(shutil.rmtree, databases.snapshot_folder(snapshot.name), ignore_errors=True)
    return {"DBSnapshot": {**snapshot.described(), "Status": "deleted"}}


DESCRIPTIONS: dict[str, Callable[[RdsStore, Json], Json]] = {
    "DescribeDBInstances": describe_instances,
    "DescribeDBSnapshots": describe_snapshots,
}
CHANGES: dict[str, Callable[[Databases, Json], Awaitable[Json]]] = {
    "CreateDBSnapshot": create_snapshot,
    "DeleteDBSnapshot": delete_snapshot,
}
ACTIONS = frozenset({*engine_api.actions("DB"), *DESCRIPTIONS, *CHANGES, *STATES})


def api_of(databases: Databases, common: CommonApi[DBInstance]) -> EngineApi[DBInstance]:
    """The API of the records of `databases`; `common` has the actions of groups and tags."""
    changes: dict[str, Call] = {
        **{name: partial(function, databases) for name, function in CHANGES.items()},
        **{name: partial(change_state, databases, name) for name in STATES},
    }
    nothing = CommonApi(RdsStore("", ""), common.parameters)
    return EngineApi(common, nothing, DESCRIPTIONS, changes, REFUSED)


def parameters_of(databases: Databases) -> EngineParameters:
    """PostgreSQL, with RDS's own parameters."""

    async def known() -> dict[str, bool]:
        contexts = {**await databases.known_parameters(), **dict.fromkeys(parameters.RDS_PARAMETERS, "sighup")}
        return {name: parameters.needs_restart({name: ""}, contexts) for name in contexts}

    return EngineParameters(known=known, defaults=parameters.RDS_PARAMETERS)


def _described(store: RdsStore, record: DBInstance) -> Json:
    return record.described(store.subnet_groups.get(record.subnet_group))


def _in_state(databases: Databases, request: Json, *states: str) -> DBInstance:
    """The instance that a request names. Raises AwsError: not found, or in none of `states`."""
    record = databases.store.engine(request["DBInstanceIdentifier"])
    if record.status not in states:
        raise AwsError(
            "InvalidDBInstanceState",
            f"DBInstance {record.name} is in {record.status} state but expected it to be one of {', '.join(states)}.",
        )
    return record


def _filters(request: Json, *known: str) -> dict[str, list[str]]:
    """The values of a request's filters. Raises AwsError for an unknown one."""
    filters = {each["Name"]: each["Values"] for each in request.get("Filters") or ()}
    for name in filters:
        if name not in known:
            raise AwsError("InvalidParameterValue", f"Unrecognized filter name: {name}")
    return filters


def _passes(filters: dict[str, list[str]], values: dict[str, set[str]]) -> bool:
    return all({"engine": {"postgres"}, **values}[name] & set(wanted) for name, wanted in filters.items())
