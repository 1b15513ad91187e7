"""Every fault of the catalogue: users see nothing of it, the environment ends where it was, and the cause is said."""

from __future__ import annotations

import pytest

from .catalogue import CATALOGUE, Fault
from .conftest import Environment


@pytest.mark.parametrize("fault", CATALOGUE, ids=lambda fault: fault.name.replace(" ", "-"))
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
