"""The history of releases."""

from __future__ import annotations

import itertools

import pytest

from alva.aws import Aws, pages
from alva.release.ledger import Ledger, Release
from alva.release.manifest import Manifest


def release(commit: str, **values: object) -> Release:
    return Release(
        commit=commit,
        digests={"api": "sha256:" + "0" * 64},
        by="somebody",
        started_at="2026-01-01T00:00:00+00:00",
        seconds=1.5,
        **values,  # type: ignore[arg-type]
    )


def test_every_release_is_a_version_and_gets_its_number(aws: Aws, manifest: Manifest) -> None:
    ledger = Ledger(aws, manifest)
    assert ledger.latest() is None
    assert ledger.history() == []
    assert ledger.record(release("a")) == 1
    assert ledger.record(release("b", outcome="rolled back", cause="it broke")) == 2
    assert [(r.number, r.commit, r.outcome) for r in ledger.history()] == [
        (2, "b", "rolled back"),
        (1, "a", "succeeded"),
    ]
    latest = ledger.latest()
    assert latest is not None
    assert latest.cause == "it broke"


def test_long_cause_is_shortened_to_the_size_of_a_parameter(aws: Aws, manifest: Manifest) -> None:
    ledger = Ledger(aws, manifest)
    ledger.record(release("a", cause="x" * 10_000))
    latest = ledger.latest()
    assert latest is not None
    assert latest.cause == "x" * 500


def test_fields_of_a_later_version_are_left_out() -> None:
    text = release("a").to_text().replace('"commit"', '"of_the_future":1,"commit"')
    assert Release.from_text(text, 3).commit == "a"


def test_history_is_newest_first_in_whatever_order_aws_gives_it(
    aws: Aws, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(aws, manifest)
    for commit in ("a", "b", "c"):
        ledger.record(release(commit))
    versions = list(pages(aws.ssm, "get_parameter_history", "Parameters", Name=ledger.parameter_name))
    for order in itertools.permutations(versions):
        monkeypatch.setattr("alva.release.history.pages", lambda *_, order=order, **__: iter(order))
        assert [entry.commit for entry in ledger.history()] == ["c", "b", "a"]
