"""The ports that a Dockerfile's last stage exposes."""

from __future__ import annotations

import re
from pathlib import Path

from alva.errors import AlvaError


def exposed_ports(dockerfile: Path) -> list[int]:
    """The ports of the EXPOSE instructions of the last stage, in order; one that a variable names is left out.

    Raises AlvaError when there is no such file.
    """
    try:
        text = dockerfile.read_text()
    except OSError as error:
        raise AlvaError(f"cannot read {dockerfile}", evidence=[str(error)]) from error
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines()
    instructions = [(parts[0].upper(), parts[1]) for line in lines if len(parts := line.strip().split(None, 1)) == 2]
    last = max((index for index, (name, _) in enumerate(instructions) if name == "FROM"), default=0)
    ports = [port for name, ports in instructions[last:] if name == "EXPOSE" for port in ports.split()]
    return [int(found[1]) for port in ports if (found := re.fullmatch(r"(\d+)(/tcp)?", port))]
