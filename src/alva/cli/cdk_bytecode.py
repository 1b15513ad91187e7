"""Shares the bytecode of the CDK's Python package between all clones of the repository on one machine.

Python compiles the package at its first import, which takes five seconds. uv installs it by hard links to its cache, so
its files have the same times in every clone, and Python accepts the bytecode that another clone has compiled. Where the
times differ, Python compiles again.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from alva import user_cache

_UNUSED_SECONDS = 30 * 86400.0


@contextlib.contextmanager
def shared_bytecode() -> Iterator[None]:
    """Provide cached bytecode before the block, and cache what the block compiled. A failure only costs time."""
    spec = importlib.util.find_spec("aws_cdk")
    if spec is None or spec.origin is None:
        yield
        return
    package, cache = Path(spec.origin).parent, _folder()
    with contextlib.suppress(OSError):
        _link(cache, package, is_wanted=lambda _, own: not own.exists())
    yield
    with contextlib.suppress(OSError):
        _link(package, cache, is_wanted=lambda own, cached: not _are_equal(own, cached))
        _prune(cache)


def _folder() -> Path:
    version = importlib.metadata.version("aws-cdk-lib")
    return user_cache.folder() / "alva" / "cdk-bytecode" / f"{version}-{sys.implementation.cache_tag}"


def _link(source: Path, target: Path, is_wanted: Callable[[Path, Path], bool]) -> None:
    """Link each wanted bytecode file below `source` to its place below `target`."""
    for file in source.rglob(f"__pycache__/*.{sys.implementation.cache_tag}.pyc"):
        wanted = target / file.relative_to(source)
        if is_wanted(file, wanted):
            user_cache.share_file(file, wanted)


def _are_equal(one: Path, other: Path) -> bool:
    first, second = one.stat(), other.stat() if other.exists() else None
    return second is not None and (first.st_size, first.st_mtime) == (second.st_size, second.st_mtime)


def _prune(cache: Path) -> None:
    """Remove the bytecode of versions that no synthesis has used for a month."""
    os.utime(cache)
    for folder in cache.parent.iterdir():
        if time.time() - folder.stat().st_mtime > _UNUSED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
