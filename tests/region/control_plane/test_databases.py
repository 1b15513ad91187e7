"""RDS in the region: a real PostgreSQL with RDS's configuration, endpoint, changes, snapshots and restores."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError

from alva.region import daemon
from alva.region.rds import metrics
from tests.conftest import RunningRegion, running_region
from tests.region.processes.found import engines
from tests.region_network import in_region, network_of
from tests.waiting import until

pytestmark = pytest.mark.region

PASSWORD = "a'quoted\\password-0123456789"
NAME = "test-database"
GIB = 1024**3


def network() -> dict[str, Any]:
    subnets = {
        f"Subnet{zone.upper()}": {
            "Type": "AWS::EC2::Subnet",
            "Properties": {
                "VpcId": {"Ref": "Vpc"},
                "CidrBlock": f"10.0.{third}.0/24",
                "AvailabilityZone": f"us-east-1{zone}",
            },
        }
        for zone, third in (("a", 10), ("b", 11))
    }
    return {"Vpc": {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}}, **subnets}


def template(parameters: dict[str, str] | None = None, **properties: Any) -> dict[str, Any]:
    values = {"rds.force_ssl": "1", "log_min_duration_statement": "250", **(parameters or {})}
    return {
        "Resources": {
            **network(),
            "SubnetGroup": {
                "Type": "AWS::RDS::DBSubnetGroup",
                "Properties": {
                    "DBSubnetGroupDescription": "private",
                    "SubnetIds": [{"Ref": "SubnetA"}, {"Ref": "SubnetB"}],
                },
            },
            "Parameters": {
                "Type": "AWS::RDS::DBParameterGroup",
                "Properties": {"Family": "postgres16", "Description": "ours", "Parameters": values},
            },
            "Database": {
                "Type": "AWS::RDS::DBInstance",
                "DeletionPolicy": "Snapshot",
                "Properties": {
                    "DBInstanceIdentifier": NAME,
                    "Engine": "postgres",
                    "EngineVersion": "16",
                    "DBInstanceClass": "db.t3.micro",
                    "AllocatedStorage": "20",
                    "DBName": "alva",
                    "MasterUsername": "alva_admin",
                    "MasterUserPassword": PASSWORD,
                    "DBSubnetGroupName": {"Ref": "SubnetGroup"},
                    "DBParameterGroupName": {"Ref": "Parameters"},
                    "EnableCloudwatchLogsExports": ["postgresql"],
                    **properties,
                },
            },
        },
        "Outputs": {"Host": {"Value": {"Fn::GetAtt": ["Database", "Endpoint.Address"]}}},
    }


class Database:
    """A region with one DB instance."""

    def __init__(self, region: RunningRegion) -> None:
        self.region = region
        self.host = region.create("database", template()).outputs["Host"]
        self.exists = True

    @property
    def address(self) -> str:
        hosts = (self.region.config.run_folder / "names/hosts").read_text().splitlines()
        return next(line.split()[0] for line in hosts if line.endswith(f" {self.host}"))

    def connect(self, **options: Any) -> psycopg.Connection[Any]:
        settings = {
            "host": self.host,
            "hostaddr": self.address,
            "dbname": "alva",
            "user": "alva_admin",
            "password": PASSWORD,
            "sslmode": "verify-full",
            "sslrootcert": str(self.region.config.state_folder / "certificates/authority.pem"),
            **options,
        }
        with network_of(self.region.config, settings["hostaddr"]):
            return psycopg.connect(**settings, autocommit=True)

    def query(self, statement: str, **options: Any) -> Any:
        with self.connect(**options) as connection:
            cursor = connection.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None

    def answers(self) -> bool:
        try:
            return bool(self.query("SELECT 1") == 1)
        except psycopg.OperationalError:
            return False

    def status(self) -> str:
        answer = self.region.client("rds").describe_db_instances(DBInstanceIdentifier=NAME)
        return str(answer["DBInstances"][0]["DBInstanceStatus"])

    def wait_for(self, status: str) -> None:
        until(lambda: self.status() == status, f"the instance to be {status}", seconds=90)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Database]]:
    """The one database of the module, in a list because `database` replaces it."""
    with running_region(tmp_path_factory.mktemp("database")) as region:
        yield [Database(region)]


@pytest.fixture
def database(shared: list[Database]) -> Database:
    """The module's database, created again if a test has deleted it."""
    shared[0] = shared[0] if shared[0].exists else Database(shared[0].region)
    return shared[0]


def test_a_verifying_client_is_served_and_the_endpoint_is_named_as_on_aws(database: Database) -> None:
    assert database.query("SELECT 1") == 1
    assert database.host.startswith(f"{NAME}.")
    assert database.host.endswith(".us-east-1.rds.amazonaws.com")
    assert database.address == in_region(database.region.config, "10.0.10.4")


def test_a_client_without_tls_is_refused_in_postgresqls_words(database: Database) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"no pg_hba.conf entry .* no encryption"):
        database.connect(sslmode="disable")


def latest(region: RunningRegion, metric: str) -> float | None:
    """The latest value of one of the instance's metrics; None if there is none yet."""
    answer = region.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/RDS",
        MetricName=metric,
        Dimensions=[{"Name": "DBInstanceIdentifier", "Value": NAME}],
        StartTime=datetime.now(UTC) - timedelta(minutes=5),
        EndTime=datetime.now(UTC) + timedelta(minutes=5),
        Period=1,
        Statistics=["Maximum"],
    )
    points = sorted(answer["Datapoints"], key=lambda point: point["Timestamp"])
    return float(points[-1]["Maximum"]) if points else None


@pytest.mark.nightly  # It waits for the next publication, up to 15 s.
def test_metrics_of_the_server_reach_cloudwatch(database: Database) -> None:
    connections = [database.connect() for _ in range(3)]
    try:
        until(lambda: (latest(database.region, "DatabaseConnections") or 0) >= 3, "the number of connections")
    finally:
        for connection in connections:
            connection.close()
    storage, memory = latest(database.region, "FreeStorageSpace"), latest(database.region, "FreeableMemory")
    cpu = latest(database.region, "CPUUtilization")
    assert storage is not None
    assert 19 * GIB < storage < 20 * GIB
    assert memory is not None
    assert 0.8 * GIB < memory < 1 * GIB
    assert cpu is not None
    assert 0 <= cpu <= 100


def test_only_processes_that_serve_a_client_count_as_connections() -> None:
    titles = [
        "postgres: checkpointer ",
        "postgres: autovacuum launcher ",
        "postgres: alva_admin alva 127.20.10.5(53214) idle ",
        "postgres: alva_admin alva 127.20.10.5(53216) SELECT ",
        "/opt/postgresql/bin/postgres -D /var/lib/postgresql/data ",
    ]
    assert metrics.count_clients(titles) == 2


def test_a_wrong_password_is_refused(database: Database) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        database.connect(password="wrong")


def test_the_instance_class_decides_the_maximum_of_connections(database: Database) -> None:
    assert database.query("SHOW max_connections") == "112"


def test_the_parameter_group_reaches_the_engine(database: Database) -> None:
    assert database.query("SHOW log_min_duration_statement") == "250ms"


def test_the_master_user_is_no_superuser(database: Database) -> None:
    assert database.query("SELECT rolsuper FROM pg_roles WHERE rolname = 'alva_admin'") is False
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.query("ALTER SYSTEM SET fsync = off")
    assert database.query("CREATE EXTENSION IF NOT EXISTS pgcrypto") is None


def test_the_servers_log_arrives_in_cloudwatch(database: Database) -> None:
    logs = database.region.client("logs")

    def has_arrived() -> bool:
        try:
            events = logs.get_log_events(
                logGroupName=f"/aws/rds/instance/{NAME}/postgresql", logStreamName=f"{NAME}.0"
            )["events"]
        except ClientError:
            return False
        return any("ready to accept connections" in event["message"] for event in events)

    until(has_arrived, "a line of the server")


def test_a_secret_attachment_adds_the_connection_to_the_secret(database: Database) -> None:
    secret = {"SecretStringTemplate": '{"username": "alva_admin"}', "GenerateStringKey": "password"}
    resources = {
        "Secret": {"Type": "AWS::SecretsManager::Secret", "Properties": {"GenerateSecretString": secret}},
        "Attachment": {
            "Type": "AWS::SecretsManager::SecretTargetAttachment",
            "Properties": {"SecretId": {"Ref": "Secret"}, "TargetId": NAME, "TargetType": "AWS::RDS::DBInstance"},
        },
    }
    outputs = {"Secret": {"Value": {"Ref": "Secret"}}}

    def value() -> Any:
        text = database.region.client("secretsmanager").get_secret_value(SecretId=stack.outputs["Secret"])
        return json.loads(text["SecretString"])

    stack = database.region.create("attachment", {"Resources": resources, "Outputs": outputs})
    attached = value()
    password = attached.pop("password")
    assert attached == {
        "username": "alva_admin", "engine": "postgres", "host": database.host, "port": 5432, "dbname": "alva",
        "dbInstanceIdentifier": NAME,
    }  # fmt: skip
    del resources["Attachment"]
    assert (
        database.region.update("attachment", {"Resources": resources, "Outputs": outputs}).status == "UPDATE_COMPLETE"
    )
    assert value() == {"username": "alva_admin", "password": password}
    assert database.region.delete("attachment").status == "DELETE_COMPLETE"


def test_a_dynamic_parameter_applies_at_once_and_a_static_one_after_a_reboot(database: Database) -> None:
    changed = template({"log_min_duration_statement": "99", "max_connections": "57"})
    assert database.region.update("database", changed).status == "UPDATE_COMPLETE"
    assert database.query("SHOW log_min_duration_statement") == "99ms"
    assert database.query("SHOW max_connections") == "112"
    rds = database.region.client("rds")
    (group,) = rds.describe_db_instances()["DBInstances"][0]["DBParameterGroups"]
    assert group["ParameterApplyStatus"] == "pending-reboot"

    def rebooted(expected: str) -> None:
        assert rds.reboot_db_instance(DBInstanceIdentifier=NAME)["DBInstance"]["DBInstanceStatus"] == "rebooting"
        database.wait_for("available")
        assert database.query("SHOW max_connections") == expected

    rebooted("57")
    assert database.region.update("database", template()).status == "UPDATE_COMPLETE"
    rebooted("112")


def test_a_parameter_that_does_not_exist_is_refused(database: Database) -> None:
    before = database.query("SHOW log_min_duration_statement")
    stack = database.region.update("database", template({"no_such_parameter": "1"}))
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "Could not find parameter with name: no_such_parameter" in stack.reason("Parameters", "UPDATE_FAILED")
    assert database.query("SHOW log_min_duration_statement") == before


def test_a_property_that_is_not_honoured_is_refused(database: Database) -> None:
    stack = database.region.update("database", template(ManageMasterUserPassword=True))
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "ManageMasterUserPassword" in stack.reason("Database", "UPDATE_FAILED")


def test_operations_without_a_server_are_refused(database: Database) -> None:
    with pytest.raises(ClientError, match="the local region does not have RDS CreateDBInstance"):
        database.region.client("rds").create_db_instance(
            DBInstanceIdentifier="other", DBInstanceClass="db.t3.micro", Engine="postgres"
        )


def test_data_survive_stop_and_start_of_the_region(database: Database) -> None:
    database.query("CREATE TABLE kept AS SELECT 'yes' AS answer")
    address = database.address
    daemon.stop(database.region.config)
    daemon.start(database.region.config)
    assert database.status() == "available"
    assert database.address == address
    assert database.query("SELECT answer FROM kept") == "yes"


def is_state_saved(database: Database) -> bool:
    """Whether the saved state has the end of every stack operation, and the instance as available.

    The region saves changes within half a second, and a killed region starts with the saved state.
    """
    file = database.region.config.state_folder / "control-plane.sqlite"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        saved = dict(
            connection.execute("SELECT service, payload FROM state WHERE service IN ('cloudformation', 'rds')")
        )
    stacks = json.loads(saved["cloudformation"])["stacks"]["data"].values()
    instances = {each["name"]: each["status"] for each in json.loads(saved["rds"])["engines"]}
    return instances.get(NAME) == "available" and not any(
        stack["StackStatus"].endswith("_IN_PROGRESS") for stack in stacks
    )


def test_data_survive_sigkill_of_the_region(database: Database) -> None:
    database.query("CREATE TABLE committed AS SELECT 'yes' AS answer")
    until(lambda: is_state_saved(database), "the saved state")
    pid = daemon.status(database.region.config).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: daemon.status(database.region.config).pid is None, "the end of the region")
    daemon.start(database.region.config)
    assert database.query("SELECT answer FROM committed") == "yes"


def test_crashed_engine_is_restarted_on_its_data(database: Database) -> None:
    database.query("CREATE TABLE written AS SELECT 'yes' AS answer")
    (killed,) = engines(database.region.config.home, "postgres")
    os.kill(killed, signal.SIGKILL)
    until(
        lambda: engines(database.region.config.home, "postgres") not in ([], [killed]) and database.answers(),
        "PostgreSQL to come back",
        seconds=90,
    )
    assert database.query("SELECT answer FROM written") == "yes"


def test_stopping_and_starting_the_instance(database: Database) -> None:
    rds = database.region.client("rds")
    rds.stop_db_instance(DBInstanceIdentifier=NAME)
    database.wait_for("stopped")
    with pytest.raises(psycopg.OperationalError):
        database.connect(connect_timeout=2)
    rds.start_db_instance(DBInstanceIdentifier=NAME)
    database.wait_for("available")
    assert database.query("SELECT 1") == 1


def test_a_new_password_replaces_the_old_one(database: Database) -> None:
    assert (
        database.region.update("database", template(MasterUserPassword="another-password-1")).status
        == "UPDATE_COMPLETE"
    )
    assert database.query("SELECT 1", password="another-password-1") == 1
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        database.connect()
    assert database.region.update("database", template()).status == "UPDATE_COMPLETE"


def test_a_snapshot_is_of_one_moment_and_can_be_restored(database: Database) -> None:
    database.query("CREATE TABLE IF NOT EXISTS saved (answer text)")
    database.query("INSERT INTO saved VALUES ('before')")
    rds = database.region.client("rds")
    rds.create_db_snapshot(DBSnapshotIdentifier="one-moment", DBInstanceIdentifier=NAME)
    database.query("INSERT INTO saved VALUES ('after')")
    restored = template()
    properties = restored["Resources"]["Database"]["Properties"]
    properties.update(DBInstanceIdentifier="restored", DBSnapshotIdentifier="one-moment")
    for key in ("MasterUsername", "MasterUserPassword", "DBName"):
        del properties[key]
    host = database.region.create("restored", restored).outputs["Host"]
    hosts = (database.region.config.run_folder / "names/hosts").read_text().splitlines()
    address = next(line.split()[0] for line in hosts if line.endswith(f" {host}"))
    assert database.query("SELECT string_agg(answer, ',') FROM saved", host=host, hostaddr=address) == "before"
    assert database.region.delete("restored").status == "DELETE_COMPLETE"


def test_deletion_with_policy_snapshot_leaves_a_snapshot(database: Database) -> None:
    database.exists = False
    assert database.region.delete("database").status == "DELETE_COMPLETE"
    rds = database.region.client("rds")
    assert rds.describe_db_instances()["DBInstances"] == []
    snapshots = [snapshot["DBSnapshotIdentifier"] for snapshot in rds.describe_db_snapshots()["DBSnapshots"]]
    assert f"{NAME}-final-snapshot" in snapshots
    with pytest.raises(StopIteration):
        _ = database.address
