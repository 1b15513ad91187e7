"""The init of a sandbox that asks for one: a few kilobytes of C from the PyPI package `dumb-init`.

On AWS it is tini, which Docker brings; with `--single-child` this one does the same: the program alone gets the
signals, whatever lost its parent is reaped, and the exit code is the program's (128 + signal where one ended it).
https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_LinuxParameters.html (initProcessEnabled)
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from pathlib import Path

from alva.errors import SandboxFailed

INSIDE = "/dev/init"
"""Where Fargate has it."""
ARGUMENTS = (INSIDE, "--single-child", "--")


@cache
def program() -> Path:
    """Where it is on this machine. Raises SandboxFailed when it is not installed."""
    try:
        files = metadata.files("dumb-init") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        found = Path(str(file.locate()))
        if file.name == "dumb-init" and found.is_file():
            return found.resolve()
    raise SandboxFailed("cannot find the package dumb-init", next_step="install the project again: ./alva --help")
