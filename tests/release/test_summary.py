"""A release in the summary of a pipeline's run."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from alva.release.ledger import Release
from alva.release.summary import markdown, shown

RELEASE = Release(
    number=7,
    commit="abc123",
    digests={"web": "sha256:w", "api": "sha256:a"},
    by="github",
    started_at="2026-11-23T10:00:00+00:00",
    seconds=61.4,
    step_seconds={"migration": 3.2, "stack:alva-staging-services": 48.0},
)


def test_release_shows_outcome_digests_and_the_longest_step_first() -> None:
    text = markdown("staging", RELEASE, url="http://example.com")
    assert text.startswith("### ✅ Release 7 of staging: succeeded\n")
    assert "| api | `sha256:a` |\n| web | `sha256:w` |" in text
    assert text.index("| stack:alva-staging-services | 48.0 |") < text.index("| migration | 3.2 |")
    assert "<http://example.com/>" in text


def recorded(*releases: Release) -> Any:
    """A ledger with these releases, newest first."""
    return SimpleNamespace(history=lambda: list(releases), latest=lambda: releases[0])


def test_page_of_a_run_shows_the_release_of_that_run_alone() -> None:
    run, other = "https://github.com/o/r/actions/runs/1", "https://github.com/o/r/actions/runs/2"
    newer, own = replace(RELEASE, number=8, run=other), replace(RELEASE, run=run)
    assert shown(recorded(newer, own), run) == own
    assert shown(recorded(newer, own), "") == newer
    refused = shown(recorded(newer), run)
    assert refused is None
    assert "This run recorded no release" in markdown("staging", refused, run=run)
    assert f"[Run]({run})" in markdown("staging", own, run=run)


def test_cause_cannot_leave_its_block() -> None:
    text = markdown("staging", replace(RELEASE, outcome="rolled back", cause="last log: ``` oops"))
    assert text.startswith("### ↩️ Release 7 of staging: rolled back; all services run the former version again\n")
    assert text.count("```") == 2
    assert "last log: ''' oops" in text


def test_environment_without_a_release_is_reported() -> None:
    assert "No release yet" in markdown("staging", None)
