"""Reads the last stage of a Dockerfile: its ports, user and volumes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from alva.errors import AlvaError


@dataclass(frozen=True, kw_only=True)
class LastStage:
    """The runtime settings of the last stage."""

    ports: tuple[int, ...] = ()
    """The ports of the EXPOSE instructions, in order, without variables."""
    user: str = ""
    """The last USER; empty if the base image sets it."""
    volumes: tuple[str, ...] = ()
    """The paths of the VOLUME instructions."""


def last_stage(dockerfile: Path) -> LastStage:
    """Read the last stage. Raises AlvaError if the file does not exist."""
    try:
        text = dockerfile.read_text()
    except OSError as error:
        raise AlvaError(f"cannot read {dockerfile}", evidence=[str(error)]) from error
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines()
    instructions = [(parts[0].upper(), parts[1]) for line in lines if len(parts := line.strip().split(None, 1)) == 2]
    last = max((index for index, (name, _) in enumerate(instructions) if name == "FROM"), default=0)
    own = instructions[last:]
    ports = [port for name, ports in own if name == "EXPOSE" for port in ports.split()]
    return LastStage(
        ports=tuple(int(found[1]) for port in ports if (found := re.fullmatch(r"(\d+)(/tcp)?", port))),
        user=next((value.strip() for name, value in reversed(own) if name == "USER"), ""),
        volumes=tuple(path for name, value in own if name == "VOLUME" for path in _paths(value)),
    )


def _paths(value: str) -> list[str]:
    """Return the paths of a VOLUME instruction: a JSON array, or words."""
    try:
        paths = json.loads(value)
    except ValueError:
        return value.split()
    return [str(path) for path in paths] if isinstance(paths, list) else value.split()
