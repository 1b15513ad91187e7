"""Which earlier releases can be restored, and the reason for those that cannot."""

from __future__ import annotations

import pytest

from alva.errors import PreflightRefused, UsageError
from alva.release.ledger import FAILED, INTERRUPTED, SUCCEEDED, Release
from alva.release.rollback import choose


def release(number: int, digest: str, outcome: str = SUCCEEDED, contractions: tuple[str, ...] = ()) -> Release:
    return Release(
        number=number,
        commit=f"c{number}",
        digests={"api": f"sha256:{digest}"},
        by="somebody",
        started_at="2026-01-01T00:00:00+00:00",
        seconds=1,
        outcome=outcome,
        contractions=contractions,
    )


def test_rollback_without_a_number_restores_the_previous_successful_release() -> None:
    history = [release(4, "d"), release(3, "c", FAILED), release(2, "b"), release(1, "a")]
    assert choose(history, None).number == 2
    assert choose(history, 1).number == 1


def test_running_digests_cannot_be_rolled_back_to() -> None:
    history = [release(3, "b"), release(2, "b"), release(1, "a")]
    assert choose(history, None).number == 1
    with pytest.raises(PreflightRefused, match="it runs now"):
        choose(history, 2)


def test_release_before_a_contraction_is_refused_and_the_possible_ones_are_named() -> None:
    history = [release(4, "d"), release(3, "c", contractions=("0007",)), release(2, "b"), release(1, "a")]
    with pytest.raises(PreflightRefused) as caught:
        choose(history, 2)
    assert "0007 removed something that it needs" in str(caught.value)
    assert "these can be restored: 3" in str(caught.value)
    assert choose(history, None).number == 3


def test_contraction_of_a_failed_release_counts_too() -> None:
    """Its migration had succeeded before its services failed."""
    history = [release(3, "b"), release(2, "x", FAILED, contractions=("0007",)), release(1, "a")]
    with pytest.raises(PreflightRefused, match="there is no earlier release"):
        choose(history, None)


def test_invalid_release_number_is_a_usage_error_that_lists_the_valid_ones() -> None:
    history = [release(3, "c"), release(2, "b", FAILED), release(1, "a")]
    for number, said in ((9, "cannot find release 9"), (2, "it failed"), (3, "the last release that succeeded")):
        with pytest.raises(UsageError, match=said) as caught:
            choose(history, number)
        assert "these can be restored: 1" in str(caught.value)


def test_first_release_has_nothing_before_it() -> None:
    with pytest.raises(PreflightRefused, match="no earlier release"):
        choose([release(1, "a")], None)


def test_release_before_a_killed_one_can_be_restored() -> None:
    """CloudFormation finished the killed release's operation: release 2 is the last successful one in the ledger."""
    history = [release(3, "c", INTERRUPTED), release(2, "b"), release(1, "a")]
    running = {"api": "sha256:c", "web": "sha256:w"}
    assert choose(history, None, running).number == 2
    assert choose(history, 1, running).number == 1
    assert choose(history, None, {"api": "sha256:b", "web": "sha256:w"}).number == 1
    with pytest.raises(PreflightRefused, match="it runs now"):
        choose([release(5, "b"), release(4, "c"), *history], 4, running)
