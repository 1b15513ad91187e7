"""The environment on loopback addresses, as in a region without root; other tests use namespaces."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.rehearsal.environment import DATABASE_RULE, NETWORK_STACK, PATHS, Rehearsal, rehearsal_in
from tests.waiting import until

pytestmark = [pytest.mark.nightly, pytest.mark.region]


@pytest.fixture(scope="module")
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """A separate environment with loopback addresses."""
    with rehearsal_in(tmp_path_factory.mktemp("loopback"), network="loopback") as rehearsal:
        up = rehearsal.alva("up")
        assert up.returncode == 0, up.stderr
        assert "network: loopback addresses" in up.stderr
        yield rehearsal


def test_everything_serves_on_loopback_addresses(loopback: Rehearsal) -> None:
    status = json.loads(loopback.alva("status", "--json").stdout)
    region = status["local_region"]
    assert region["network"] == "loopback addresses, security groups only checked at a release (ALVA_NETWORK=loopback)"
    assert region["enforces_security_groups"] is False
    addresses = {task["address"] for service in status["services"] for task in service["tasks"]}
    assert addresses
    assert all(address.startswith("127.") for address in addresses)
    assert region["network"] in loopback.alva("status").stdout
    for path in PATHS.values():
        assert loopback.get(path).status < 500


@pytest.mark.parametrize("called", [("up",), ("deploy",)], ids=["up", "deploy"])
def test_release_that_drops_a_needed_rule_is_refused_without_an_enforcing_network(
    loopback: Rehearsal, called: tuple[str, ...]
) -> None:
    with loopback.replaced(NETWORK_STACK, DATABASE_RULE, "pass"):
        refused = loopback.alva(*called)
    assert refused.returncode == 3, refused.stderr
    assert "api cannot reach database on port 5432, needed for its DATABASE_URL" in refused.stderr
    assert "nothing was changed" in refused.stderr


def test_revoked_rule_closes_the_load_balancer_on_loopback_too(loopback: Rehearsal) -> None:
    ec2 = loopback.client("ec2")
    groups = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": ["alva-staging-alb"]}])
    (group,) = groups["SecurityGroups"]
    rules = [
        {key: rule[key] for key in ("IpProtocol", "FromPort", "ToPort", "IpRanges")} for rule in group["IpPermissions"]
    ]
    ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=rules)
    try:
        verified = loopback.alva("verify")
        assert verified.returncode == 7, verified.stdout + verified.stderr
        assert "no answer" in verified.stdout
    finally:
        ec2.authorize_security_group_ingress(GroupId=group["GroupId"], IpPermissions=rules)
    until(lambda: answers(loopback), "an answer of web")


def answers(rehearsal: Rehearsal) -> bool:
    try:
        return rehearsal.get("/").status == 200
    except OSError:
        return False
