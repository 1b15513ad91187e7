"""What the last stage of a Dockerfile says: its ports, its user, its volumes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from alva.errors import AlvaError


@dataclass(frozen=True, kw_only=True)
class LastStage:
    """The instructions of the last stage that say how its image runs."""

    ports: tuple[int, ...] = ()
    """Of the EXPOSE instructions, in order; one that a variable names is left out."""
    user: str = ""
    """Of the last USER; empty where the base decides."""
    volumes: tuple[str, ...] = ()
    """The paths of the VOLUME instructions."""


def last_stage(dockerfile: Path) -> LastStage:
    """Read the last stage. Raises AlvaError when there is no such file."""
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
    """The paths of a VOLUME instruction: a JSON array, or words."""
    try:
        paths = json.loads(value)
    except ValueError:
        return value.split()
    return [str(path) for path in paths] if isinstance(paths, list) else value.split()
