"""The DNS names inside the region and their addresses: Cloud Map services, endpoints, the stand-ins.

The table is one hosts file in a folder of its own. Each sandbox has that folder mounted read-only, and its /etc/hosts
is a link into it. The file is replaced by rename, so a process sees a change at its next look-up, and never an
incomplete file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_LOCALHOST = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


class Names:
    """The region's name table. Not thread-safe: used on the event loop only."""

    def __init__(self, folder: Path) -> None:
        """Start with an empty table in `folder`, which is created if missing."""
        self.folder = folder
        self._addresses: dict[str, tuple[str, ...]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write()

    def publish(self, name: str, addresses: Sequence[str]) -> None:
        """Make `name` resolve to exactly `addresses` (IPv4), which replace its former ones."""
        if not addresses:
            self.withdraw(name)
            return
        if self._addresses.get(name) != tuple(addresses):
            self._addresses[name] = tuple(addresses)
            self._write()

    def withdraw(self, name: str) -> None:
        """Remove `name`; an unknown name changes nothing."""
        if self._addresses.pop(name, None) is not None:
            self._write()

    def resolve(self, name: str) -> tuple[str, ...]:
        """The published addresses of `name`; empty for an unknown one."""
        return self._addresses.get(name, ())

    def _write(self) -> None:
        lines = [f"{address} {name}\n" for name, addresses in self._addresses.items() for address in addresses]
        new = self.folder / "hosts.new"
        new.write_text(_LOCALHOST + "".join(lines))
        new.chmod(0o644)
        new.replace(self.folder / "hosts")
