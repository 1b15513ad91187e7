"""The stored state of a sleeping environment. (tests/rehearsal covers sleeping and waking.)"""

from __future__ import annotations

import json

import pytest

from alva.aws import Aws
from alva.errors import UsageError
from alva.release.hibernation import Asleep, Hibernation
from alva.release.manifest import Manifest


def test_environment_is_awake_until_it_sleeps(aws: Aws, manifest: Manifest) -> None:
    hibernation = Hibernation(aws, manifest)
    assert hibernation.state() is None
    with pytest.raises(UsageError, match="is not asleep"):
        hibernation.wake(lambda _line: None)
    with pytest.raises(UsageError, match="nothing is deployed yet"):
        hibernation.sleep(lambda _line: None)
    assert hibernation.state() is None


def test_stored_state_is_deleted_with_the_environment(aws: Aws, manifest: Manifest) -> None:
    hibernation = Hibernation(aws, manifest)
    remembered = {"services": {"alva-web": 2}, "databases": ["d"], "by": "me", "since": "2026-01-01"}
    aws.ssm.put_parameter(Name=manifest.parameters.asleep, Value=json.dumps(remembered), Type="String")
    assert hibernation.state() == Asleep(services={"alva-web": 2}, databases=("d",), by="me", since="2026-01-01")
    hibernation.forget()
    hibernation.forget()
    assert hibernation.state() is None
