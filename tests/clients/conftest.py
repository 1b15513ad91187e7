"""Clients that nobody here wrote, as they are: how to call them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rehearsal.environment import Rehearsal

TOOLS = Path(__file__).parents[2] / "tools"

Call = Callable[..., subprocess.CompletedProcess[str]]


def aws_variables(endpoint: str) -> dict[str, str]:
    """What points any AWS client at an endpoint; nothing else does."""
    return {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_PAGER": "",
        "AWS_MAX_ATTEMPTS": "1",
    }


@pytest.fixture
def aws(rehearsal: Rehearsal) -> Call:
    """The AWS CLI, in the environment that `./alva up` made: aws("ecs", "list-clusters")."""
    cli = [str(Path(sys.executable).parent / "uv"), "run", "--quiet", "--frozen", "--project", str(TOOLS / "pipeline")]

    def call(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run(
            [*cli, "aws", *arguments],
            env=aws_variables(rehearsal.endpoint),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0 or not check, ended.stderr
        return ended

    return call
