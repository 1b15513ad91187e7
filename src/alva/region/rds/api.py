"""The RDS API's operations that act on a server; the describing ones are MiniStack's.

DB instances are made, changed and deleted through CloudFormation here: the same operations of the API are refused.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from ministack import app as ministack_app
from ministack.services import rds

if TYPE_CHECKING:
    from alva.region.rds.databases import Databases

logger = logging.getLogger("alva.rds")

Parameters = dict[str, Any]
Response = tuple[int, dict[str, str], bytes]

REFUSED = frozenset({
    "CreateDBInstance", "DeleteDBInstance", "ModifyDBInstance", "CreateDBInstanceReadReplica", "PromoteReadReplica",
    "RestoreDBInstanceFromDBSnapshot", "RestoreDBInstanceToPointInTime", "RestoreDBInstanceFromS3", "CreateDBCluster",
    "ModifyDBCluster", "DeleteDBCluster", "RestoreDBClusterFromSnapshot", "CreateGlobalCluster", "CreateDBProxy",
    "CopyDBSnapshot", "ModifyDBParameterGroup", "ResetDBParameterGroup", "CreateBlueGreenDeployment",
})  # fmt: skip

_running: set[asyncio.Task[None]] = set()


def install(databases: Databases) -> None:
    """Put these operations in front of MiniStack's."""
    operations: dict[str, Callable[[Databases, Parameters], Awaitable[Response]]] = {
        "RebootDBInstance": reboot,
        "StopDBInstance": stop,
        "StartDBInstance": start,
        "CreateDBSnapshot": create_snapshot,
        "DeleteDBSnapshot": delete_snapshot,
    }

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: Parameters
    ) -> Response:
        parameters = {**query_params, **parse_qs(body.decode(errors="replace"), keep_blank_values=True)}
        action = rds._p(parameters, "Action")
        if action in REFUSED:
            return _error("InvalidAction", f"the local region does not have RDS {action}: use CloudFormation")
        if action in operations:
            return await operations[action](databases, parameters)
        response: Response = await rds.handle_request(method, path, headers, body, query_params)
        return response

    ministack_app.SERVICE_HANDLERS["rds"] = handle


async def reboot(databases: Databases, parameters: Parameters) -> Response:
    """RebootDBInstance: static parameters come into force."""
    record = _available(parameters, "available")
    if isinstance(record, tuple):
        return record
    record["DBInstanceStatus"] = "rebooting"
    response = _single("RebootDBInstance", record)
    _in_background(databases.restart(record), record)
    return response


async def stop(databases: Databases, parameters: Parameters) -> Response:
    """StopDBInstance: it stays stopped over a restart of the region."""
    record = _available(parameters, "available")
    if isinstance(record, tuple):
        return record
    record["DBInstanceStatus"] = "stopping"
    record["_stopped"] = True
    response = _single("StopDBInstance", record)
    _in_background(databases.stop_server(record), record)
    return response


async def start(databases: Databases, parameters: Parameters) -> Response:
    """StartDBInstance."""
    record = _available(parameters, "stopped")
    if isinstance(record, tuple):
        return record
    record["DBInstanceStatus"] = "starting"
    record.pop("_stopped", None)
    response = _single("StartDBInstance", record)
    _in_background(databases.restart(record), record)
    return response


async def create_snapshot(databases: Databases, parameters: Parameters) -> Response:
    """CreateDBSnapshot: returns when the copy is complete."""
    record = _available(parameters, "available", "stopped")
    if isinstance(record, tuple):
        return record
    response: Response = rds._create_db_snapshot(parameters)
    if response[0] < 400:
        await databases.snapshot(record, rds._p(parameters, "DBSnapshotIdentifier"))
    return response


async def delete_snapshot(databases: Databases, parameters: Parameters) -> Response:
    """DeleteDBSnapshot, with its data."""
    response: Response = rds._delete_db_snapshot(parameters)
    if response[0] < 400:
        folder = databases.snapshot_folder(rds._p(parameters, "DBSnapshotIdentifier"))
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return response


def _available(parameters: Parameters, *states: str) -> dict[str, Any] | Response:
    """The record of the instance that a request names, or the error: not found, or in none of `states`."""
    name = rds._p(parameters, "DBInstanceIdentifier")
    record: dict[str, Any] | None = rds._instances.get(name)
    if record is None:
        return _error("DBInstanceNotFound", f"DBInstance {name} not found.", 404)
    if record["DBInstanceStatus"] not in states:
        return _error(
            "InvalidDBInstanceState",
            f"DBInstance {name} is in {record['DBInstanceStatus']} state "
            f"but expected it to be one of {', '.join(states)}.",
        )
    return record


def _in_background(work: Awaitable[None], record: dict[str, Any]) -> None:
    async def run() -> None:
        try:
            await work
        except Exception as error:
            record["DBInstanceStatus"] = "failed"
            logger.error("DB instance %s: %s", record["DBInstanceIdentifier"], error)

    task = asyncio.get_running_loop().create_task(run())
    _running.add(task)
    task.add_done_callback(_running.discard)


def _single(action: str, record: dict[str, Any]) -> Response:
    response: Response = rds._single_instance_response(f"{action}Response", f"{action}Result", record)
    return response


def _error(code: str, message: str, status: int = 400) -> Response:
    response: Response = rds._error(code, message, status)
    return response
