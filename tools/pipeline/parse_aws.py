"""Parses `aws` command lines with the AWS CLI's own parser and botocore's own validation; sends nothing.

Reads a JSON list of argument lists on standard input; writes a list of problems, "" where there is none, as JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys

os.environ.update(
    AWS_ACCESS_KEY_ID="none",
    AWS_SECRET_ACCESS_KEY="none",  # noqa: S106
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
    AWS_CONFIG_FILE=os.devnull,
    AWS_SHARED_CREDENTIALS_FILE=os.devnull,
    AWS_PAGER="",
)

from awscli.clidriver import create_clidriver


class _Reached(Exception):
    """The command was parsed and validated, and would now be sent."""


def problem_of(arguments: list[str]) -> str:
    """What is wrong with `aws ARGUMENTS`, or "" when it would have been sent."""
    reached = []

    def stop(**_call: object) -> None:
        reached.append(True)
        raise _Reached

    driver = create_clidriver()
    driver.session.register("before-call", stop)
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            driver.main(arguments)
        except SystemExit:
            pass
        except _Reached:
            return ""
    return "" if reached else said.getvalue().strip() or "it ended without a call"


if __name__ == "__main__":
    json.dump([problem_of(arguments) for arguments in json.load(sys.stdin)], sys.stdout)
