"""What checks need to know of a Dockerfile: the ports that its last stage exposes, and the sources that it copies."""

from __future__ import annotations

import re
from pathlib import Path

from alva.errors import AlvaError


def exposed_ports(dockerfile: Path) -> list[int]:
    """The ports of the EXPOSE instructions of the last stage, in order. Raises AlvaError when there is no such file."""
    return [
        int(port.removesuffix("/tcp"))
        for instruction, arguments in _last_stage(dockerfile)
        if instruction == "EXPOSE"
        for port in arguments.split()
    ]


def copied_folders(dockerfile: Path, context: Path) -> list[Path]:
    """The files and folders of the build context that the last stage copies."""
    copied = []
    for instruction, arguments in _last_stage(dockerfile):
        words = [word for word in arguments.split() if not word.startswith("--")]
        if instruction in ("COPY", "ADD") and "--from=" not in arguments:
            copied += [context / source for source in words[:-1]]
    return copied


def _last_stage(dockerfile: Path) -> list[tuple[str, str]]:
    try:
        text = dockerfile.read_text()
    except OSError as error:
        raise AlvaError(f"cannot read {dockerfile}", evidence=[str(error)]) from error
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines()
    instructions = [(parts[0].upper(), parts[1]) for line in lines if len(parts := line.strip().split(None, 1)) == 2]
    start = max((index for index, (name, _) in enumerate(instructions) if name == "FROM"), default=0)
    return instructions[start:]
