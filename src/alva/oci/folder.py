"""Extracts one folder of an image from its layers, without unpacking the image.

https://github.com/opencontainers/image-spec/blob/main/layer.md
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO

WHITEOUT = ".wh."
"""The prefix of an entry that deletes a file of lower layers."""
OPAQUE = ".wh..wh..opq"
"""An entry that deletes all files of its folder in lower layers."""


def read_folder(layers: Iterable[IO[bytes]], path: str) -> dict[PurePosixPath, bytes] | None:
    """Return the files of the folder at `path` (`/app/migrations`), by their relative path; None if there is none.

    `layers` are tar archives, compressed or not, the lowest first. Links are skipped. Raises tarfile.TarError or
    OSError for an invalid archive.
    """
    folder = PurePosixPath(path.strip("/"))
    found: dict[PurePosixPath, bytes] = {}
    is_there = False
    for layer in layers:
        here: dict[PurePosixPath, bytes] = {}
        removed: list[PurePosixPath] = []
        made = False
        with tarfile.open(fileobj=layer, mode="r|*") as archive:
            for entry in archive:
                at = PurePosixPath(entry.name.lstrip("/"))  # PurePosixPath drops a leading "./"
                if at.name.startswith(WHITEOUT):
                    removed.append(at.parent if at.name == OPAQUE else at.with_name(at.name.removeprefix(WHITEOUT)))
                elif at.is_relative_to(folder) and ".." not in at.parts:
                    made = made or at != folder or entry.isdir()
                    content = archive.extractfile(entry) if entry.isfile() else None
                    if content is not None:
                        here[at.relative_to(folder)] = content.read()
        # A layer deletes only files of lower layers, not its own.
        found = {file: content for file, content in found.items() if not _is_in(folder / file, removed)} | here
        is_there = made or (is_there and not _is_in(folder, removed))
    return found if is_there else None


def write_folder(files: dict[PurePosixPath, bytes], target: Path) -> Path:
    """Write the files of `read_folder`, and return `target`."""
    for file, content in files.items():
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        (target / file).write_bytes(content)
    target.mkdir(parents=True, exist_ok=True)
    return target


def _is_in(path: PurePosixPath, removed: Iterable[PurePosixPath]) -> bool:
    return any(path.is_relative_to(each) for each in removed)
