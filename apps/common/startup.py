"""Makes the start of a process shorter."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection in the block, and exclude the objects that exist at its end from later collections.

    Modules, models and routes stay as long as the process, and Python would search them for garbage again and again.
    Without that, a service starts in a fifth less time.
    https://docs.python.org/3/library/gc.html#gc.freeze
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
