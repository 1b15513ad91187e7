"""Fixtures of this folder: see `environment.py`; the running environment is in `tests/conftest.py`."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable

import pytest

from tests.aws_cli import aws_cli

from .environment import PROJECT, Rehearsal, rehearsal_in

Call = Callable[..., subprocess.CompletedProcess[str]]

__all__ = ["PROJECT", "Call", "Rehearsal", "rehearsal_in"]


@pytest.fixture
def aws(rehearsal: Rehearsal) -> Call:
    """The AWS CLI in the released environment: aws("ecs", "list-clusters")."""
    return functools.partial(aws_cli, rehearsal.endpoint)
