"""Errors for ports that are in use, with the process that listens."""

from __future__ import annotations

import errno
import pwd
from pathlib import Path

from alva.errors import RegionFailed
from alva.region.procfs import command_line, processes

_LISTENING = "0A"
"""TCP_LISTEN in /proc/net/tcp: https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html"""


def port_in_use(what: str, address: str, port: int, variable: str, error: OSError) -> RegionFailed:
    """The error for an address that could not be bound. It names the process that listens, if Linux shows it."""
    evidence = [f"{address}:{port}: {error.strerror}"]
    if (found := listener_of(port)) is not None:
        evidence.append(f"{found} listens on port {port}")
    state = "is in use" if error.errno == errno.EADDRINUSE else "cannot be used"
    return RegionFailed(
        f"cannot {what}: port {port} {state}" + ("" if address == "127.0.0.1" else f" on {address}"),
        evidence=evidence,
        next_step=f"free the port, or choose another {_kind(variable)} with {variable}",
    )


def _kind(variable: str) -> str:
    return "port" if variable.endswith("_PORT") else "address"


def listener_of(port: int) -> str | None:
    """The process that listens on a port in this thread's network, such as "process 7 (python -m http.server)".

    "a process of USER" if only that user can see it; None when no process listens.
    """
    sockets = [
        fields
        for family in ("tcp", "tcp6")
        for line in _lines(Path("/proc/thread-self/net") / family)[1:]
        if (fields := line.split())[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port
    ]
    if not sockets:
        return None
    inodes = {f"socket:[{fields[9]}]" for fields in sockets}
    for process in processes():
        try:
            if any(str(each.readlink()) in inodes for each in Path(f"/proc/{process}/fd").iterdir()):
                return f"process {process} ({command_line(process)[:100]})"
        except OSError:  # it has ended, or belongs to another user
            continue
    user = int(sockets[0][7])
    try:
        return f"a process of {pwd.getpwuid(user).pw_name}"
    except KeyError:
        return f"a process of user {user}"


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
