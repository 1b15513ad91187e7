"""Fixtures of this folder: see `environment.py`; the running environment is in `tests/conftest.py`."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable, Iterator

import pytest

from tests.aws_cli import aws_cli

from .environment import PROJECT, Rehearsal, rehearsal_in

Call = Callable[..., subprocess.CompletedProcess[str]]

__all__ = ["PROJECT", "Call", "Rehearsal", "rehearsal_in"]


@pytest.fixture
def aws(rehearsal: Rehearsal) -> Call:
    """The AWS CLI in the released environment: aws("ecs", "list-clusters")."""
    return functools.partial(aws_cli, rehearsal.endpoint)


@pytest.fixture(autouse=True)
def restored(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that passes leaves the versions that it found, since the next one may be any other."""
    if "rehearsal" not in request.fixturenames:
        yield
        return
    rehearsal: Rehearsal = request.getfixturevalue("rehearsal")
    failed_before = request.session.testsfailed
    before = rehearsal.digests()
    yield
    if rehearsal.digests() != before:
        rehearsal.alva("up")
        assert request.session.testsfailed > failed_before, "the test leaves another version"
