"""Bootstrap, releases, migrations and rollbacks while the region simulates AWS under load."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from .environment import Rehearsal, rehearsal_in

pytestmark = pytest.mark.nightly


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    """An environment that `./alva up` created in an empty account: bootstrap, stacks, migration and services."""
    with rehearsal_in(tmp_path_factory.mktemp("adverse")) as rehearsal:
        rehearsal.variables["ALVA_ADVERSE_CONDITIONS"] = "10"
        up = rehearsal.alva("up")
        assert up.returncode == 0, up.stderr
        yield rehearsal


def test_release_and_rollback_pass_without_a_failed_request(rehearsal: Rehearsal) -> None:
    assert json.loads(rehearsal.alva("status", "--json").stdout)["local_region"]["adverse_conditions"] == 10
    before = rehearsal.digests()
    with rehearsal.edited("apps/web/app.py", "\n# edited\n", append=True), rehearsal.users() as problems:
        up = rehearsal.alva("up")
        assert up.returncode == 0, up.stderr
        assert rehearsal.digests()["web"] != before["web"]
        back = rehearsal.alva("rollback", "--yes")
        assert back.returncode == 0, back.stderr
    assert problems == []
    assert rehearsal.digests() == before


def test_failed_release_is_rolled_back_without_a_failed_request(rehearsal: Rehearsal) -> None:
    before = rehearsal.digests()
    with rehearsal.edited("apps/web/__main__.py", "raise SystemExit(1)\n"), rehearsal.users() as problems:
        up = rehearsal.alva("up")
    assert up.returncode == 5, up.stderr
    assert problems == []
    assert rehearsal.digests() == before


def test_migration_runs(rehearsal: Rehearsal) -> None:
    deploy = rehearsal.alva("deploy", "--migrate-again", "--json")
    assert deploy.returncode == 0, deploy.stderr
    assert "migration" in [step["step"] for step in json.loads(deploy.stdout)["steps"]]
