"""The init process of a sandbox with `has_init`: the program of the PyPI package `dumb-init`.

AWS uses Docker's tini. With `--single-child` dumb-init behaves the same: only the program gets signals, orphans are
reaped, and the exit code is the program's (128 + signal if a signal ended it).
https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_LinuxParameters.html (initProcessEnabled)
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from pathlib import Path

from alva.errors import SandboxFailed

INSIDE = "/dev/init"
"""Fargate's path of it."""
ARGUMENTS = (INSIDE, "--single-child", "--")


@cache
def program() -> Path:
    """Its path on this machine. Raises SandboxFailed when it is not installed."""
    try:
        files = metadata.files("dumb-init") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        found = Path(str(file.locate()))
        if file.name == "dumb-init" and found.is_file():
            return found.resolve()
    raise SandboxFailed("cannot find the package dumb-init", next_step="install the project again: ./alva --help")
