"""Each fault of the catalogue: users do not notice it, the environment keeps its state, and the cause is reported."""

from __future__ import annotations

import pytest

from .catalogue import CATALOGUE, Fault
from .conftest import Environment

ON_EVERY_PUSH = frozenset({"unknown digest", "failing migration"})
"""A refused release, and one whose migration fails; test_any_service.py has a service that ends at its start. The
nightly run covers all faults.
"""


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
def test_fault_is_reported_with_its_cause_and_users_notice_nothing(environment: Environment, fault: Fault) -> None:
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
