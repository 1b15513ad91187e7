"""Parses `aws` command lines with the AWS CLI's parser and botocore's validation. It sends no request.

Reads a JSON list of argument lists on standard input, and writes a JSON list of problems. "" means no problem.
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
    """The command is valid, and the request would be sent now."""


def problem_of(arguments: list[str]) -> str:
    """Return the problem of `aws ARGUMENTS`, or "" if the request would be sent."""
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
    return "" if reached else said.getvalue().strip() or "it made no call"


if __name__ == "__main__":
    json.dump([problem_of(arguments) for arguments in json.load(sys.stdin)], sys.stdout)
