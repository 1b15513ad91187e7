"""The probe that is sent into a task, and what is read of its output."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

from alva.release import inside_probe
from alva.release.deep_checks import read_results
from alva.release.verify import Verdict

OVERRIDES_BYTES = 8192


def test_probe_is_small_enough_for_run_task_and_needs_nothing_of_ours() -> None:
    source = inspect.getsource(inside_probe)
    assert len(json.dumps(source)) < OVERRIDES_BYTES - 2000  # the rest is the services' names
    assert "alva." not in source.replace("./alva", "")


def test_probe_says_what_failed_and_goes_on_with_the_next_check() -> None:
    """Here is neither database nor cache: every check fails, and each says so."""
    asked = {"services": {"web": "http://127.0.0.1:9/health"}, "customer": "verify@example.com"}
    ended = subprocess.run(
        [sys.executable, "-c", inspect.getsource(inside_probe), json.dumps(asked)],
        env={"PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    results = read_results(["noise", *ended.stdout.splitlines(), '{"message": "a log line"}'], seconds=1.5)
    assert [(result.name, result.verdict) for result in results] == [
        ("inside: database", Verdict.FAIL),
        ("inside: queue", Verdict.FAIL),
        ("inside: web by name", Verdict.FAIL),
        ("inside: customer", Verdict.FAIL),
    ]
    assert "Connection refused" in results[2].reason
