"""The RDS API's operations that act on a server; MiniStack answers the Describe operations.

DB instances are created, changed and deleted only through CloudFormation: the API's operations for that are refused.
"""

from __future__ import annotations

import asyncio
import contextvars
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

from ministack import app as ministack_app
from ministack.services import rds

from alva.region import query_protocol
from alva.region.aws_error import AwsError
from alva.region.query_protocol import Response
from alva.region.rds.databases import Databases

Parameters = dict[str, str]

REFUSED = frozenset({
    "CreateDBInstance", "DeleteDBInstance", "ModifyDBInstance", "CreateDBInstanceReadReplica", "PromoteReadReplica",
    "RestoreDBInstanceFromDBSnapshot", "RestoreDBInstanceToPointInTime", "RestoreDBInstanceFromS3", "CreateDBCluster",
    "ModifyDBCluster", "DeleteDBCluster", "RestoreDBClusterFromSnapshot", "CreateGlobalCluster", "CreateDBProxy",
    "CopyDBSnapshot", "ModifyDBParameterGroup", "ResetDBParameterGroup", "CreateBlueGreenDeployment",
})  # fmt: skip

ABSENT = frozenset({"DescribeOrderableDBInstanceOptions"})
"""Operations about AWS's offerings, which have no meaning here."""

STATES = {
    "RebootDBInstance": ("available", "rebooting"),
    "StopDBInstance": ("available", "stopping"),
    "StartDBInstance": ("stopped", "starting"),
}
"""Operation -> the required state of the instance, and its state meanwhile."""


def install(databases: Databases) -> None:
    """Handle these operations before MiniStack does."""
    operations: dict[str, Callable[[Databases, Parameters], Awaitable[Response]]] = {
        **dict.fromkeys(STATES, change_state),
        "CreateDBSnapshot": create_snapshot,
        "DeleteDBSnapshot": delete_snapshot,
    }

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query_params: dict[str, Any]
    ) -> Response:
        parameters = query_protocol.read_form(body, query_params)
        action = parameters.get("Action", "")
        try:
            if action in REFUSED:
                raise AwsError("InvalidAction", f"the local region does not have RDS {action}: use CloudFormation")
            if action in ABSENT:
                raise AwsError("InvalidAction", f"the local region does not have RDS {action}")
            if action in operations:
                return await operations[action](databases, parameters)
        except AwsError as error:
            return query_protocol.refuse(query_protocol.service_model("rds"), error)
        response: Response = await rds.handle_request(method, path, headers, body, query_params)
        return response

    ministack_app.SERVICE_HANDLERS["rds"] = handle


async def change_state(databases: Databases, parameters: Parameters) -> Response:
    """RebootDBInstance, which applies static parameters, StopDBInstance and StartDBInstance.

    The work continues after the response. A stopped instance stays stopped when the region restarts.
    """
    action = parameters["Action"]
    before, status = STATES[action]
    record = _in_state(parameters, before)
    record["DBInstanceStatus"] = status
    record["_stopped"] = status == "stopping"
    response: Response = rds._single_instance_response(f"{action}Response", f"{action}Result", record)
    databases.region.background.spawn(
        f"change DB instance {record['DBInstanceIdentifier']}",
        databases.stop_server(record) if status == "stopping" else databases.restart(record, status),
        # In the caller's context, since the records are those of the caller's account and region.
        context=contextvars.copy_context(),
    )
    return response


async def create_snapshot(databases: Databases, parameters: Parameters) -> Response:
    """CreateDBSnapshot: returns when the copy is complete."""
    record = _in_state(parameters, "available", "stopped")
    response: Response = rds._create_db_snapshot(parameters)
    if response[0] < 400:
        await databases.snapshot(record, parameters["DBSnapshotIdentifier"])
    return response


async def delete_snapshot(databases: Databases, parameters: Parameters) -> Response:
    """DeleteDBSnapshot, with its data."""
    response: Response = rds._delete_db_snapshot(parameters)
    if response[0] < 400:
        folder = databases.snapshot_folder(parameters["DBSnapshotIdentifier"])
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return response


def _in_state(parameters: Parameters, *states: str) -> dict[str, Any]:
    """The record of the instance that a request names. Raises AwsError: not found, or in none of `states`."""
    name = parameters.get("DBInstanceIdentifier", "")
    record: dict[str, Any] | None = rds._instances.get(name)
    if record is None:
        raise AwsError("DBInstanceNotFound", f"DBInstance {name} not found.", 404)
    if record["DBInstanceStatus"] not in states:
        raise AwsError(
            "InvalidDBInstanceState",
            f"DBInstance {name} is in {record['DBInstanceStatus']} state "
            f"but expected it to be one of {', '.join(states)}.",
        )
    return record
