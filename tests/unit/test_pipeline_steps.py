"""The shell of the release workflow's steps, run as GitHub runs it: `bash -e` on a file with the step's script."""

from __future__ import annotations

import base64
import inspect
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from alva.cli.deploy import command as deploy_command
from alva.cli.preflight import command as preflight_command
from alva.cli.rollback import command as rollback_command
from alva.release.deploy import ROLLBACK_SECONDS
from alva.release.drift_detection import DETECTION_SECONDS
from alva.release.risks import Kind
from alva.release.stacks import Stacks
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "deploy-staging.yml").read_text())
RELEASE = WORKFLOW["jobs"]["release"]

PREPARATION_SECONDS = 360
"""For checkout, installation and `./alva preflight`, which detects drift as well."""


def step(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in RELEASE["steps"] if each.get("name") == name)
    return found


def workspace(tmp_path: Path, alva: str) -> Path:
    """A checkout with this script as `./alva`, and two digests."""
    (tmp_path / "alva").write_text(alva)
    (tmp_path / "alva").chmod(0o755)
    (tmp_path / "digests").mkdir()
    (tmp_path / "digests" / "api").write_text("api=sha256:1\n")
    (tmp_path / "digests" / "web").write_text("web=sha256:2\n")
    return tmp_path


def start(folder: Path, name: str, **environment: str) -> subprocess.Popen[str]:
    (folder / "step.sh").write_text(step(name)["run"])
    return subprocess.Popen(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "step.sh"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        stdout=subprocess.PIPE,
        text=True,
    )


RECORD = '#!/bin/bash\necho "$*" >> calls\n'


@pytest.mark.parametrize("separator", [",", ", ", " "])
def test_several_kinds_of_risk_are_allowed_in_one_run(tmp_path: Path, separator: str) -> None:
    folder = workspace(tmp_path, RECORD)
    everything = separator.join(kind.value for kind in Kind)
    process = start(folder, "Release what was built", ALLOW=everything)
    process.communicate(timeout=60)
    assert process.returncode == 0
    # The preflight before it must allow the same risks as the release.
    for line, command in zip(
        (folder / "calls").read_text().splitlines(), (preflight_command, deploy_command), strict=True
    ):
        name, *words = line.split()
        parsed = command.make_context(name, words[: words.index("--image")])
        assert set(parsed.params["allowed"]) == {kind.value for kind in Kind}


def test_rollback_allows_the_kinds_of_risk_that_were_named(tmp_path: Path) -> None:
    folder = workspace(tmp_path, RECORD)
    start(folder, "Roll back to an earlier release", RELEASE="7", ALLOW="drift, outage").communicate(timeout=60)
    name, *words = (folder / "calls").read_text().split()
    parsed = rollback_command.make_context(name, words)
    assert (parsed.params["number"], parsed.params["allowed"]) == (7, ("drift", "outage"))


def test_without_a_choice_nothing_is_allowed(tmp_path: Path) -> None:
    folder = workspace(tmp_path, RECORD)
    start(folder, "Release what was built", ALLOW="").communicate(timeout=60)
    preflight, deploy = (folder / "calls").read_text().splitlines()
    assert preflight == "preflight --image api=sha256:1 --image web=sha256:2"
    assert "--allow" not in deploy


@pytest.mark.parametrize("name", ["Release what was built", "Roll back to an earlier release"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_cancelled_run_reaches_the_release(tmp_path: Path, name: str, number: signal.Signals) -> None:
    """GitHub signals only the step's shell, so the shell must `exec` the release."""
    script = f"""#!{sys.executable}
import signal, sys, time, pathlib
if sys.argv[1] == "preflight":
    sys.exit(0)
def end(number, _):
    pathlib.Path("ended-by").write_text(str(number))
    sys.exit(130)
signal.signal(signal.SIGINT, end)
signal.signal(signal.SIGTERM, end)
pathlib.Path("runs").touch()
while True:  # a signal that arrives just before one long sleep would not end it
    time.sleep(0.1)
"""
    folder = workspace(tmp_path, script)
    process = start(folder, name, ALLOW="", RELEASE="3")
    until((folder / "runs").exists, "the release to run")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert (folder / "ended-by").read_text() == str(int(number))


@pytest.mark.parametrize("name", ["Release what was built", "Roll back to an earlier release"])
def test_rollback_ends_before_the_job_and_the_credentials_do(name: str) -> None:
    """The longest case: a wait for the lock, the deadline, a cancelled stack update, and a rollback as long."""
    words = step(name)["run"].split()
    wait_seconds, deadline_seconds = (int(words[words.index(option) + 1]) for option in ("--wait", "--deadline"))
    cancel_seconds = inspect.signature(Stacks).parameters["cancel_timeout_seconds"].default
    looking_seconds = DETECTION_SECONDS + 180  # drift is detected and change sets are created before the first step
    longest = wait_seconds + looking_seconds + deadline_seconds + cancel_seconds + ROLLBACK_SECONDS + cancel_seconds
    job_seconds = RELEASE["timeout-minutes"] * 60
    assert longest + PREPARATION_SECONDS <= job_seconds
    assert job_seconds < step("Assume the deploy role")["with"]["role-duration-seconds"]


def test_rollback_is_in_another_group_than_pushes() -> None:
    assert WORKFLOW["concurrency"] == {
        "group": "${{ inputs.rollback_to && 'rollback-staging' || 'deploy-staging' }}",
        "cancel-in-progress": False,
    }


def test_lock_is_freed_and_the_summary_written_after_every_outcome() -> None:
    for name, command in (
        ("Free the lock of this run", "./alva unlock --of-this-run"),
        ("Write the summary", "./alva summary"),
    ):
        assert step(name)["if"].startswith("${{ always()")
        assert command in step(name)["run"]


def test_refused_role_shows_the_tokens_subject_and_not_the_token() -> None:
    claims = {"sub": "repo:octo@1/shop@2:ref:refs/heads/staging", "aud": "sts.amazonaws.com"}
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    finished = subprocess.run(
        [sys.executable, ROOT / "tools" / "pipeline" / "show_subject.py"],
        input=json.dumps({"value": f"e30.{payload}.c2ln"}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert claims["sub"] in finished.stdout
    assert payload not in finished.stdout
    for job in WORKFLOW["jobs"].values():
        shown = next(each for each in job["steps"] if "show_subject" in each.get("run", ""))
        assert shown["if"] == "${{ failure() && steps.role.outcome == 'failure' }}"
