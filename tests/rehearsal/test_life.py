"""Operations other than releases: set secrets, sleep and wake, destroy and create again."""

from __future__ import annotations

import json
import subprocess

import httpx
import pytest

from .environment import Rehearsal


def with_input(rehearsal: Rehearsal, value: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `./alva ARGUMENTS` with `value` on standard input."""
    return rehearsal.alva(*arguments, standard_input=value)


def alarms_that_send_mails(rehearsal: Rehearsal) -> list[str]:
    alarms = rehearsal.client("cloudwatch").describe_alarms(MaxRecords=100)["MetricAlarms"]
    return [alarm["AlarmName"] for alarm in alarms if alarm["ActionsEnabled"]]


def test_secret_is_set_read_by_new_tasks_of_its_users_alone_and_audited(rehearsal: Rehearsal) -> None:
    before = rehearsal.tasks()
    value = "sk-rotated-value"
    changed = with_input(rehearsal, f"{value}\n", "secrets", "set", "openai-api-key", "--restart")
    assert changed.returncode == 0, changed.stderr
    after = rehearsal.tasks()
    assert not set(after["api"]) & set(before["api"])
    assert {name: after[name] for name in ("web", "auth", "admin")} == {
        name: before[name] for name in ("web", "auth", "admin")
    }
    code = "import os; print(os.environ['OPENAI_API_KEY'])"
    assert rehearsal.alva("run", "api", "--", "python", "-c", code).stdout == f"{value}\n"
    audit = rehearsal.alva("secrets", "audit", "--json").stdout
    assert json.loads(audit)[0]["secret"] == "alva-staging-openai-api-key"
    assert value not in audit + changed.stdout + changed.stderr


@pytest.mark.nightly
def test_sleeping_environment_runs_nothing_and_wakes_unchanged(rehearsal: Rehearsal) -> None:
    before = rehearsal.digests()
    refused = rehearsal.alva("sleep")
    assert refused.returncode == 2, "the question gets no answer"
    slept = rehearsal.alva("sleep", "--yes", "--json")
    assert slept.returncode == 0, slept.stderr
    said = json.loads(slept.stdout)
    assert said["databases"] == ["alva-staging-database"]
    assert said["saves_usd_an_hour"] > 0.05
    assert not any(rehearsal.tasks().values())
    assert alarms_that_send_mails(rehearsal) == []
    assert httpx.get(rehearsal.url).status_code == 503
    again = rehearsal.alva("sleep", "--yes")
    assert again.returncode == 0, "already asleep: the stored state is still that from before the first sleep"
    for arguments in (("deploy", "--yes"), ("migrate",)):
        asleep = rehearsal.alva(*arguments)
        assert asleep.returncode == 3, asleep.stderr
        assert "it is asleep; nothing was changed" in asleep.stderr
        assert "next: ./alva wake" in asleep.stderr
    assert "asleep since " in rehearsal.alva("status").stdout
    verified = rehearsal.alva("verify")
    assert verified.returncode == 7
    assert "staging is asleep since " in verified.stderr
    checked = rehearsal.alva("preflight")
    assert checked.returncode == 3
    assert [line.split()[:2] for line in checked.stdout.splitlines() if " awake " in line] == [["FAIL", "awake"]]

    woken = rehearsal.alva("wake")
    assert woken.returncode == 0, woken.stderr
    assert rehearsal.digests() == before
    assert len(alarms_that_send_mails(rehearsal)) > 30
    assert rehearsal.alva("wake").returncode == 2


def test_destroy_asks_for_the_name_and_lists_retained_resources(rehearsal: Rehearsal) -> None:
    before = rehearsal.tasks()
    assert rehearsal.alva("destroy", "--confirm", "production").returncode == 2
    unnamed = rehearsal.alva("destroy")
    assert unnamed.returncode == 2
    assert "--confirm staging" in unnamed.stderr
    listed = json.loads(rehearsal.alva("destroy", "--dry-run", "--json").stdout)
    assert listed["destroyed"] is False
    assert any("alva-staging-jwt-private-key" in each for each in listed["stays"])
    assert "RDS::DBInstance alva-staging-database" in listed["goes"]
    assert rehearsal.tasks() == before


@pytest.mark.nightly
def test_destroyed_environment_is_created_again_with_its_secrets_and_images(rehearsal: Rehearsal) -> None:
    secrets_before = rehearsal.alva("secrets", "audit", "--json").stdout
    digests_before = rehearsal.digests()
    destroyed = rehearsal.alva("destroy", "--confirm", "staging")
    assert destroyed.returncode == 0, destroyed.stderr
    with pytest.raises(httpx.HTTPError):
        httpx.get(rehearsal.url)
    back = rehearsal.alva("up")
    assert back.returncode == 0, back.stderr
    assert rehearsal.digests() == digests_before
    assert rehearsal.alva("secrets", "audit", "--json").stdout == secrets_before, "no secret was created again"
