"""One environment for all faults, with shorter times than staging and the same mechanisms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from lib.config.services import SERVICES

from alva.region.config import RegionConfig
from tests.region_network import network_of
from tests.rehearsal.environment import Rehearsal, rehearsal_in
from tests.waiting import until

CLUSTER = "alva-staging-cluster"

SHORTER = """
ENVIRONMENTS = MappingProxyType({
    "staging": STAGING.with_settings(
        tasks__grace_period_seconds=30,
        tasks__stop_timeout_seconds=4,
        tasks__deregistration_delay_seconds=2,
        tasks__circuit_breaker_failures=1,
    )
})
"""
"""Appended to infrastructure/lib/config/environments.py. Nothing else differs from staging.

The grace period is the time that a task needs to start on a busy machine. It is part of every service's task
definition, so no fault changes it: that would replace the tasks of all services.
"""


@dataclass(frozen=True)
class Standing:
    """The state of an environment, according to ECS and to requests."""

    digests: dict[str, str | None]
    containers: dict[str, Any]
    """Service -> its containers' definitions."""
    unsettled: tuple[str, ...]
    """Services with too few or too many tasks, or with unhealthy targets."""


@dataclass(frozen=True)
class Environment(Rehearsal):
    """The environment of the faults."""

    def standing(self) -> Standing:
        """Return the current state."""
        names = [service.service_name for service in SERVICES]
        services: list[dict[str, Any]] = self.client("ecs").describe_services(cluster=CLUSTER, services=names)[
            "services"
        ]
        return Standing(
            digests=self.digests(),
            containers={service["serviceName"]: self._containers(service) for service in services},
            unsettled=(
                *(
                    f"{service['serviceName']}: {service['runningCount']} of {service['desiredCount']}"
                    for service in services
                    if service["runningCount"] != service["desiredCount"]
                ),
                *(
                    f"{service['serviceName']}: {target['Target']['Id']} is {target['TargetHealth']['State']}"
                    for service in services
                    for target in self._targets(service)
                    if target["TargetHealth"]["State"] != "healthy"
                ),
            ),
        )

    def _containers(self, service: dict[str, Any]) -> Any:
        answer = self.client("ecs").describe_task_definition(taskDefinition=service["taskDefinition"])
        return answer["taskDefinition"]["containerDefinitions"]

    def _targets(self, service: dict[str, Any]) -> list[dict[str, Any]]:
        (balancer,) = service["loadBalancers"]
        answer = self.client("elbv2").describe_target_health(TargetGroupArn=balancer["targetGroupArn"])
        return list(answer["TargetHealthDescriptions"])

    def settled(self) -> Standing:
        """Wait until nothing is unsettled, and return the state."""
        return until(
            lambda: (now := self.standing()).unsettled == () and None not in now.digests.values() and now,
            "a settled environment",
        )

    @contextmanager
    def unharmed(self, *, felt: Sequence[str] = ()) -> Iterator[None]:
        """Check that users see no failed request during the block, and that the former state runs and verifies
        afterwards.

        `felt` are paths whose users may notice the fault.
        """
        # The load balancer may still check the targets that the test before has put back.
        before = self.settled()
        with self.users() as problems:
            yield
            self.settled()
        assert self.standing() == before
        verified = self.alva("verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
        assert [problem for problem in problems if problem.partition(":")[0] not in felt] == []

    @property
    def authority_file(self) -> Path:
        """The region's certificate authority."""
        return self.home / "state/certificates/authority.pem"

    def address_of(self, name: str) -> str:
        """Resolve a name inside the region."""
        hosts = (self.home / "run/names/hosts").read_text().splitlines()
        return next(line.split()[0] for line in hosts if name in line.split()[1:])

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection[Any]]:
        """Connect as the master user, with a verified certificate, like a client in the VPC. Raises psycopg's
        errors.
        """
        rds, secrets = self.client("rds"), self.client("secretsmanager")
        (instance,) = rds.describe_db_instances(DBInstanceIdentifier="alva-staging-database")["DBInstances"]
        host = instance["Endpoint"]["Address"]
        credentials = json.loads(secrets.get_secret_value(SecretId="alva-staging-database")["SecretString"])
        address = self.address_of(host)
        with network_of(RegionConfig(home=self.home), address):
            connection = psycopg.connect(
                host=host,
                hostaddr=address,
                user=credentials["username"],
                password=credentials["password"],
                dbname="alva",
                sslmode="verify-full",
                sslrootcert=str(self.authority_file),
            )
        try:
            yield connection
        finally:
            connection.close()

    def query_database(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement; none while the database does not answer."""
        try:
            with self.database() as connection:
                return connection.execute(statement.encode()).fetchall()
        except psycopg.OperationalError:
            return []

    def causes(self) -> list[tuple[str, str]]:
        """Return subject and kind of each cause that `./alva why` shows for the newest release."""
        asked = self.alva("why", "--release", str(self.last_release()["number"]), "--json")
        assert asked.returncode == 0, asked.stderr
        return [(cause["subject"], cause["kind"]) for cause in json.loads(asked.stdout)["release"]["causes"]]

    def last_release(self) -> dict[str, Any]:
        """The newest entry of the ledger."""
        parameter = self.client("ssm").get_parameter(Name="/alva-staging/release")["Parameter"]
        return {**json.loads(parameter["Value"]), "number": parameter["Version"]}


@pytest.fixture(scope="session")
def _environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    with rehearsal_in(tmp_path_factory.mktemp("faults")) as rehearsal:
        settings = rehearsal.project / "infrastructure/lib/config/environments.py"
        settings.write_text(settings.read_text() + SHORTER)
        environment = Environment(project=rehearsal.project, variables=rehearsal.variables)
        up = environment.alva("up")
        assert up.returncode == 0, up.stderr
        yield environment


@pytest.fixture
def environment(_environment: Environment, request: pytest.FixtureRequest) -> Iterator[Environment]:
    """The environment, running and without operations in progress, even after a failed test."""
    failed_before = request.session.testsfailed
    yield _environment
    if request.session.testsfailed > failed_before:
        _environment.alva("up")
