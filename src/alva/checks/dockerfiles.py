"""What checks need to know of a Dockerfile: the ports that its last stage exposes, and the sources that it copies."""

from __future__ import annotations

import re
from pathlib import Path

from alva.errors import AlvaError


def exposed_ports(dockerfile: Path) -> list[int]:
    """The ports of the EXPOSE instructions of the last stage, in order. Raises AlvaError when there is no such file."""
    return [
        int(port.removesuffix("/tcp"))
        for instruction, arguments in _stages(dockerfile)[-1]
        if instruction == "EXPOSE"
        for port in arguments.split()
    ]


def copied_folders(dockerfile: Path, context: Path) -> list[Path]:
    """The files and folders of the build context that the last stage copies, itself or by way of stages before it."""
    return [context / source for source in _copied(_stages(dockerfile), -1)]


def _copied(stages: list[list[tuple[str, str]]], number: int) -> list[str]:
    copied: list[str] = []
    for instruction, arguments in stages[number]:
        words = [word for word in arguments.split() if not word.startswith("--")]
        origin = re.search(r"--from=(\S+)", arguments)
        if instruction == "FROM" or (instruction in ("COPY", "ADD") and origin):
            name = (origin[1] if origin else words[0]).lower()
            earlier = stages[: number % len(stages)]
            copied += [
                source
                for index, stage in enumerate(earlier)
                if name in (_name(stage), str(index))
                for source in _copied(earlier, index)
            ]
        elif instruction in ("COPY", "ADD"):
            copied += words[:-1]
    return copied


def _name(stage: list[tuple[str, str]]) -> str:
    """The stage's name in lower case; empty where it has none."""
    return stage[0][1].split()[-1].lower() if re.search(r"\sAS\s", stage[0][1], re.IGNORECASE) else ""


def _stages(dockerfile: Path) -> list[list[tuple[str, str]]]:
    try:
        text = dockerfile.read_text()
    except OSError as error:
        raise AlvaError(f"cannot read {dockerfile}", evidence=[str(error)]) from error
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines()
    instructions = [(parts[0].upper(), parts[1]) for line in lines if len(parts := line.strip().split(None, 1)) == 2]
    starts = [index for index, (name, _) in enumerate(instructions) if name == "FROM"] or [0]
    return [instructions[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
