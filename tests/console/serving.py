"""A console that serves in this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alva.console.server import Console


@contextmanager
def serving(session: Any) -> Iterator[Console]:
    """Serve a console of this session during the block."""
    console, ready = Console(session), threading.Event()
    thread = threading.Thread(target=console.serve, args=(ready.set,), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield console
    finally:
        console.stop()
        thread.join(30)
        assert not thread.is_alive()
