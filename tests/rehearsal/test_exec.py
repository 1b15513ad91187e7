"""ECS Exec as a setting of the environment: enabling it needs approval, and then a command runs in a task."""

from __future__ import annotations

import pytest

from tests.waiting import until

from .environment import Rehearsal

SETTING = ("infrastructure/lib/config/settings.py", "exec_enabled: bool = False", "exec_enabled: bool = True")


@pytest.mark.nightly
def test_exec_setting_needs_approval_and_then_allows_sessions_in_tasks(rehearsal: Rehearsal) -> None:
    before = rehearsal.digests()
    off = rehearsal.alva("exec", "api", "--", "true")
    assert off.returncode == 1
    assert "ECS Exec is off in staging" in off.stderr
    try:
        with rehearsal.replaced(*SETTING):
            refused = rehearsal.alva("deploy")
            assert refused.returncode == 3, "wider permissions need approval, and none was given"
            assert "ssmmessages:OpenDataChannel" in refused.stderr
            with rehearsal.users() as problems:
                on = rehearsal.alva("deploy", "--allow", "iam")
            assert on.returncode == 0, on.stderr
            assert problems == []
            assert rehearsal.digests() == before, "the images are the same"

            program = "import os, sys; print(os.environ['DATABASE_URL'][:10], input()); sys.exit(5)"
            ran = rehearsal.alva("exec", "api", "--", "python", "-c", program, standard_input="for the record\n")
            assert (ran.returncode, ran.stdout) == (5, "postgresql for the record\n"), ran.stderr
            logs = rehearsal.client("logs")
            until(
                lambda: logs.filter_log_events(logGroupName="/alva/staging/exec", filterPattern='"for the record"')[
                    "events"
                ],
                "the transcript",
            )
    finally:
        # The log group with the sessions is deleted, which needs --allow data.
        back = rehearsal.alva("deploy", "--allow", "data")
        assert back.returncode == 0, back.stderr
    assert rehearsal.alva("exec", "api", "--", "true").returncode == 1
