"""Every fault of the catalogue: users see nothing of it, the environment ends where it was, and the cause is said."""

from __future__ import annotations

import pytest

from .catalogue import CATALOGUE, Fault
from .conftest import Environment

ON_EVERY_PUSH = frozenset(
    {
        "unknown digest",
        "image without content",
        "crash at start",
        "health 500",
        "missing secret",
        "missing key of a secret",
        "failing migration",
        "database down",
    }
)
"""One fault for each way in which a release can end; all of them run every night."""


def test_faults_of_every_push_are_in_the_catalogue() -> None:
    assert {fault.name for fault in CATALOGUE} >= ON_EVERY_PUSH


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            fault, id=fault.name.replace(" ", "-"), marks=[] if fault.name in ON_EVERY_PUSH else pytest.mark.nightly
        )
        for fault in CATALOGUE
    ],
)
def test_fault_is_told_with_its_cause_and_harms_nobody(environment: Environment, fault: Fault) -> None:
    last = environment.last_release()["number"]
    with environment.unharmed(felt=fault.felt), fault.breaks(environment):
        ended = environment.alva(*fault.called)
    assert ended.returncode == fault.exit_code, ended.stderr
    for words in fault.says:
        assert words in ended.stdout + ended.stderr
    release = environment.last_release()
    if fault.outcome is None:
        assert release["number"] == last
    else:
        assert (release["number"] > last, release["outcome"]) == (True, fault.outcome)
        assert environment.causes()[:1] == [fault.why]
