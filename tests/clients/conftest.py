"""Unmodified third-party clients."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable

import pytest

from tests.aws_cli import aws_cli
from tests.rehearsal.environment import Rehearsal

Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def aws(rehearsal: Rehearsal) -> Call:
    """The AWS CLI in the released environment: aws("ecs", "list-clusters")."""
    return functools.partial(aws_cli, rehearsal.endpoint)
