"""The control plane's state on disk: written soon after every change and at stop, all of it in one transaction."""

from __future__ import annotations

from pathlib import Path


class Persistence:
    """Saves the state of MiniStack's services and of our own modules in their place."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def mark_changed(self) -> None:
        """Have the state saved within half a second. Call it on the event loop after a change outside a request."""
        raise NotImplementedError
