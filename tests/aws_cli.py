"""Runs the unmodified AWS CLI against a region."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PIPELINE_TOOLS = Path(__file__).parents[1] / "tools" / "pipeline"
"""The project whose lock file pins the AWS CLI."""


def aws_variables(endpoint: str) -> dict[str, str]:
    """Return the environment variables that point AWS clients to an endpoint."""
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


def aws_cli(endpoint: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `aws` with these arguments. With `check`, an exit code other than 0 fails the test."""
    cli = [str(Path(sys.executable).parent / "uv"), "run", "--quiet", "--frozen", "--project", str(PIPELINE_TOOLS)]
    ended = subprocess.run(
        [*cli, "aws", *arguments],
        env=aws_variables(endpoint),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0 or not check, ended.stderr
    return ended
