"""Faults that only the local region's network and control groups show: blocked connections, too much memory."""

from __future__ import annotations

import pytest

from alva.region import daemon
from alva.region.config import RegionConfig
from tests.rehearsal.environment import DATABASE_RULE, NETWORK_STACK

from . import breaking
from .catalogue import ROLLED_BACK, WEB_ALONE
from .conftest import Environment

GREEDY = """
taken = []
for _ in range(4096):
    taken.append(b"x" * 2**20)
"""
"""Uses four times the memory of web's task; ends by itself where memory is not limited."""


@pytest.mark.nightly
def test_version_that_needs_too_much_memory_is_rolled_back(environment: Environment) -> None:
    limits = daemon.status(RegionConfig(home=environment.home)).memory_limits
    if not limits.startswith("enforced"):
        pytest.skip(f"memory limits are {limits}")
    with environment.unharmed(), breaking.web_main(GREEDY)(environment):
        ended = environment.alva(*WEB_ALONE)
    assert ended.returncode == ROLLED_BACK, ended.stderr
    assert "OutOfMemoryError: Container killed due to memory usage" in ended.stderr
    assert "exit code 137" in ended.stderr
    assert environment.last_release()["outcome"] == "rolled back"
    assert environment.causes()[0] == ("web", "out-of-memory")


@pytest.mark.nightly
def test_release_that_drops_the_rule_to_the_database_is_rolled_back_with_the_reason(environment: Environment) -> None:
    if not daemon.status(RegionConfig(home=environment.home)).enforces_security_groups:
        pytest.skip("the region lets every connection through; it refuses such a release (test_loopback.py)")
    dropped = breaking.place(NETWORK_STACK, DATABASE_RULE, "pass")
    before = database_rules(environment)
    with environment.unharmed(), breaking.both(breaking.new_version("api"), dropped)(environment):
        ended = environment.alva("up")
    assert ended.returncode == ROLLED_BACK, ended.stderr
    assert "api cannot reach database on port 5432, needed for its DATABASE_URL" in ended.stderr
    assert "inside: database: " in ended.stderr
    assert environment.last_release()["outcome"] == "rolled back"
    assert database_rules(environment) == before


def database_rules(environment: Environment) -> list[tuple[int, str]]:
    """Port and source group of each rule of the database's security group."""
    groups = environment.client("ec2").describe_security_groups(
        Filters=[{"Name": "group-name", "Values": ["alva-staging-rds"]}]
    )
    (group,) = groups["SecurityGroups"]
    found = [
        (rule["FromPort"], pair["GroupId"]) for rule in group["IpPermissions"] for pair in rule["UserIdGroupPairs"]
    ]
    assert found
    return found
