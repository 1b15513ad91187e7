"""Which name resolves to which addresses inside the region: Cloud Map services, endpoints, the stand-ins.

The table is one hosts file in a folder of its own. Each sandbox has that folder bound read-only and its /etc/hosts
links into it; the file is replaced by rename, so that every process sees every change at its next look-up, and never
half of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_LOCALHOST = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


class Names:
    """The region's name table. Not thread-safe: published to from the event loop alone."""

    def __init__(self, folder: Path) -> None:
        """Start with an empty table in `folder`, which is made if missing."""
        self.folder = folder
        self._addresses: dict[str, tuple[str, ...]] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write()

    def publish(self, name: str, addresses: Sequence[str]) -> None:
        """Let `name` resolve to exactly `addresses` (IPv4), in place of what it resolved to before."""
        if not addresses:
            self.withdraw(name)
            return
        if self._addresses.get(name) != tuple(addresses):
            self._addresses[name] = tuple(addresses)
            self._write()

    def withdraw(self, name: str) -> None:
        """Let `name` resolve to nothing; withdrawing an unknown name changes nothing."""
        if self._addresses.pop(name, None) is not None:
            self._write()

    def resolve(self, name: str) -> tuple[str, ...]:
        """The addresses that `name` was published with; empty when it was not."""
        return self._addresses.get(name, ())

    def _write(self) -> None:
        lines = [f"{address} {name}\n" for name, addresses in self._addresses.items() for address in addresses]
        new = self.folder / "hosts.new"
        new.write_text(_LOCALHOST + "".join(lines))
        new.chmod(0o644)
        new.replace(self.folder / "hosts")
