"""A service gets another port: network, load balancer and tasks change step by step."""

from __future__ import annotations

import pytest

from . import breaking
from .catalogue import ROLLED_BACK, UP
from .conftest import CLUSTER, Environment

ADMIN_PORT = breaking.both(
    breaking.place("infrastructure/lib/config/services.py", "port=3003,", "port=3013,"),
    breaking.place("apps/admin/Dockerfile", "EXPOSE 3003", "EXPOSE 3013"),
)


@pytest.mark.nightly
def test_users_do_not_notice_a_service_that_gets_another_port(environment: Environment) -> None:
    ports = admitted_ports(environment)
    with environment.users() as problems:
        with ADMIN_PORT(environment):
            moved = environment.alva(*UP)
            assert moved.returncode == 0, moved.stderr
            assert admin_port(environment) == 3013
            assert admitted_ports(environment) == {(3000, 3002), (3013, 3013)}
        back = environment.alva(*UP)
    assert back.returncode == 0, back.stderr
    assert problems == []
    assert (admin_port(environment), admitted_ports(environment)) == (3003, ports)


@pytest.mark.parametrize(
    ("web", "felt", "says"),
    [
        pytest.param(
            *('raise SystemExit("the setting FLUX is missing")\n', (), "last log: the setting FLUX is missing"),
            id="taken back by CloudFormation",
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            *(breaking.page_answers(503), ("/",), "web answers /: HTTP 503"),
            id="taken back by the engine",
            marks=pytest.mark.nightly,
        ),
    ],
)
def test_failed_release_with_another_port_is_rolled_back_unnoticed(
    environment: Environment, web: str, felt: tuple[str, ...], says: str
) -> None:
    """Users notice the fault of the new web version until it is rolled back."""
    ports = admitted_ports(environment)
    with environment.unharmed(felt=felt), breaking.both(ADMIN_PORT, breaking.web_main(web))(environment):
        ended = environment.alva(*UP)
    assert ended.returncode == ROLLED_BACK, ended.stderr
    assert says in ended.stderr
    assert (admin_port(environment), admitted_ports(environment)) == (3003, ports)


def admin_port(environment: Environment) -> int:
    """The port at which the load balancer reaches admin."""
    (service,) = environment.client("ecs").describe_services(cluster=CLUSTER, services=["alva-admin"])["services"]
    return int(service["loadBalancers"][0]["containerPort"])


def admitted_ports(environment: Environment) -> set[tuple[int, int]]:
    """The ports that the tasks' security group admits."""
    (group,) = environment.client("ec2").describe_security_groups(
        Filters=[{"Name": "group-name", "Values": ["alva-staging-ecs"]}]
    )["SecurityGroups"]
    return {(rule["FromPort"], rule["ToPort"]) for rule in group["IpPermissions"]}
