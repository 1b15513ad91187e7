"""Builds a Dockerfile without Docker: the CLI's part of an image's way into the region."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from alva.region.images.store import Image, ImageStore


def build(
    dockerfile: Path,
    context: Path,
    store: ImageStore,
    *,
    target: str | None = None,
    on_line: Callable[[str], None] | None = None,
) -> Image:
    """Build `dockerfile` with `context` as its folder and return the image, from the cache as far as nothing changed.

    `target` stops at that stage. `on_line` gets each line of output of what RUN runs, and a line per instruction that
    is executed rather than found in the cache. Blocking (seconds when RUN runs); safe to call side by side from
    threads and processes. Raises BuildFailed, naming the Dockerfile and its line.
    """
    raise NotImplementedError
