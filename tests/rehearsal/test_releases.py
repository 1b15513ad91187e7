"""Releases into the running environment: their changes, and the state after a failed one."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from tests.waiting import until

from .environment import Rehearsal


def test_second_up_changes_nothing(rehearsal: Rehearsal) -> None:
    before = rehearsal.tasks()
    up = rehearsal.alva("up", "--json")
    assert up.returncode == 0, up.stderr
    said = json.loads(up.stdout)
    assert said["changed"] is False
    assert said["steps"] == []
    assert rehearsal.tasks() == before


def test_edit_in_one_service_releases_only_that_service_without_a_failed_request(rehearsal: Rehearsal) -> None:
    tasks_before, digests_before = rehearsal.tasks(), rehearsal.digests()
    with rehearsal.edited("apps/web/app.py", "\n# edited\n", append=True), rehearsal.users() as problems:
        up = rehearsal.alva("up", "--json")
    assert up.returncode == 0, up.stderr
    said = json.loads(up.stdout)
    assert "migration" not in [step["step"] for step in said["steps"]]
    tasks_after, digests_after = rehearsal.tasks(), rehearsal.digests()
    assert digests_after["web"] == said["digests"]["web"] != digests_before["web"]
    assert not set(tasks_after["web"]) & set(tasks_before["web"])
    for other in ("api", "auth", "admin"):
        assert tasks_after[other] == tasks_before[other]
        assert digests_after[other] == digests_before[other]
    assert problems == []

    # Only the content decides: the former sources make the former image.
    assert rehearsal.alva("up").returncode == 0
    assert rehearsal.digests() == digests_before


def test_all_services_roll_back_together_when_one_does_not_start(rehearsal: Rehearsal) -> None:
    before = rehearsal.digests()
    with (
        rehearsal.edited("apps/web/__main__.py", "raise SystemExit(1)\n"),
        rehearsal.edited("apps/admin/app.py", "\n# edited\n", append=True),
    ):
        up = rehearsal.alva("up")
    assert up.returncode == 5, up.stderr
    assert rehearsal.digests() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.nightly)])
def test_interrupted_release_is_finished_by_the_next_up(rehearsal: Rehearsal, number: signal.Signals) -> None:
    """A cancelled pipeline sends SIGTERM, a terminal sends SIGINT."""
    with rehearsal.edited("apps/web/app.py", "\n# interrupted\n", append=True):
        with rehearsal.alva_running("up") as (process, events):
            for event in events:
                if event.get("event") == "line" and str(event.get("step", "")).endswith("-services"):
                    os.killpg(process.pid, number)
                    break
            assert process.wait(timeout=30) == 130
        assert json.loads(rehearsal.alva("lock", "--json").stdout) is None

        up = rehearsal.alva("up", "--json")
        assert up.returncode == 0, up.stderr
        assert rehearsal.digests()["web"] == json.loads(up.stdout)["digests"]["web"]
    assert rehearsal.alva("up").returncode == 0


@pytest.mark.nightly
def test_key_of_an_external_service_is_generated_for_stand_ins(rehearsal: Rehearsal) -> None:
    secret = {"SecretId": "alva-staging-openai-api-key"}
    rehearsal.client("secretsmanager").put_secret_value(**secret, SecretString="alva:unset")
    assert rehearsal.alva("secrets", "check").returncode == 3
    up = rehearsal.alva("up")
    assert up.returncode == 0, up.stderr
    assert rehearsal.alva("secrets", "check").returncode == 0


@pytest.mark.nightly
def test_unknown_resource_type_is_refused_by_name_before_any_change(rehearsal: Rehearsal) -> None:
    odd = 'cdk.CfnResource(network, "Odd", type="AWS::Nothing::Here")\n    return app\n'
    before = rehearsal.tasks()
    with rehearsal.replaced("infrastructure/lib/composition.py", "return app\n", odd):
        up = rehearsal.alva("up")
    assert up.returncode == 3, up.stderr
    assert "AWS::Nothing::Here" in up.stderr
    assert rehearsal.tasks() == before


def test_one_off_task_gives_its_output_and_its_exit_code(rehearsal: Rehearsal) -> None:
    code = "import os, sys; print(os.environ['ENVIRONMENT'], 'JWT_PRIVATE_KEY' in os.environ); sys.exit(7)"
    ran = rehearsal.alva("run", "auth", "--", "python", "-c", code)
    assert ran.returncode == 7, ran.stderr
    assert ran.stdout == "staging True\n"


def test_logs_show_requests_with_the_services_name(rehearsal: Rehearsal) -> None:
    rehearsal.get("/admin/x?marker=find-me")

    def found() -> list[dict[str, Any]]:
        lines = rehearsal.alva("logs", "admin", "--json", "--since", "1m").stdout.splitlines()
        return [line for line in map(json.loads, lines) if "/admin/x" in str(line["message"])]

    assert {line["source"] for line in until(found, "the line of the request")} == {"admin"}
