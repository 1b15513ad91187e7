"""A release whose rollback also fails exits with 9 and names the stuck stack. The next release repairs it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .environment import Rehearsal

STACK = "alva-staging-services"
GROUP = "/alva/staging/admin"


def status_of(rehearsal: Rehearsal) -> str:
    return str(rehearsal.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"][0]["StackStatus"])


@pytest.mark.nightly
def test_failed_rollback_ends_with_nine_and_is_continued_after_its_cause_is_fixed(rehearsal: Rehearsal) -> None:
    logs, before = rehearsal.client("logs"), rehearsal.digests()
    with (
        rehearsal.users() as problems,
        rehearsal.edited("apps/web/__main__.py", "raise SystemExit(1)\n"),
        rehearsal.replaced(
            "infrastructure/lib/config/settings.py", "log_retention_days: int = 30", "log_retention_days: int = 14"
        ),
    ):
        with rehearsal.alva_running("deploy", "--yes") as (process, events):
            for event in events:
                # After the log groups got their new retention, delete one, so that a later step fails.
                if _is_rolling(event):
                    logs.delete_log_group(logGroupName=GROUP)
                    break
            said = [event for event in events if event]
            code = process.wait(timeout=240)
        assert code == 9, said[-5:]
        (error,) = [event for event in said if "error" in event]
        assert "UPDATE_ROLLBACK_FAILED" in json.dumps(error)
        assert "LogGroup" in json.dumps(error), "the resource that blocks the rollback is named"
        assert status_of(rehearsal) == "UPDATE_ROLLBACK_FAILED"
        (line,) = [x for x in rehearsal.alva("preflight").stdout.splitlines() if "stacks can be updated" in x]
        assert f"{STACK} is UPDATE_ROLLBACK_FAILED" in line
        latest = json.loads(rehearsal.alva("releases", "--json", "--last", "1").stdout)[0]
        assert latest["outcome"] == "failed"

        # The cause remains: the next release tries to continue the rollback, and its error has a next step.
        again = rehearsal.alva("deploy", "--yes")
        assert again.returncode == 9, again.stderr
        assert f"wait for {STACK} (UPDATE_ROLLBACK_FAILED)" in again.stderr
        assert f"continue-update-rollback --stack-name {STACK} --resources-to-skip" in again.stderr
    assert rehearsal.digests() == before
    assert problems == []

    logs.create_log_group(logGroupName=GROUP)
    mended = rehearsal.alva("deploy", "--yes")
    assert mended.returncode == 0, mended.stderr
    assert status_of(rehearsal) == "UPDATE_ROLLBACK_COMPLETE"
    assert rehearsal.digests() == before
    groups = logs.describe_log_groups(logGroupNamePrefix=GROUP)["logGroups"]
    assert [group["retentionInDays"] for group in groups] == [30]


def _is_rolling(event: dict[str, Any]) -> bool:
    """Whether a service's new tasks are being started."""
    return str(event.get("step", "")) == f"stack:{STACK}" and "new tasks run" in json.dumps(event)
