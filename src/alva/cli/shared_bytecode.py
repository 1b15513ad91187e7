"""Shares the bytecode of installed packages between all clones of the repository on one machine.

Python compiles a package at its first import, which takes five seconds for the CDK's. uv installs packages by hard
links to its cache, so their files have the same times in every clone, and Python accepts the bytecode that another
clone has compiled. Where the times differ, Python compiles again.

`python -m alva.cli.shared_bytecode MODULE [ARGUMENT...]` runs a module with the shared bytecode of all packages.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from alva import user_cache

_UNUSED_SECONDS = 30 * 86400.0


def of_the_cdk() -> contextlib.AbstractContextManager[None]:
    """Share the bytecode of the CDK's package, which the block imports."""
    spec = importlib.util.find_spec("aws_cdk")
    if spec is None or spec.origin is None:
        return contextlib.nullcontext()
    return _shared(Path(spec.origin).parent, f"aws-cdk-{importlib.metadata.version('aws-cdk-lib')}")


def of_all_packages() -> contextlib.AbstractContextManager[None]:
    """Share the bytecode of all installed packages, which takes half a second, with what the block imports."""
    packages = Path(sysconfig.get_path("purelib"))
    names = sorted(each.name for each in packages.glob("*.dist-info"))
    return _shared(packages, f"all-{hashlib.sha256('/'.join(names).encode()).hexdigest()[:16]}")


@contextlib.contextmanager
def _shared(folder: Path, key: str) -> Iterator[None]:
    """Provide cached bytecode before the block, and cache what the block compiled. A failure only costs time."""
    cache = user_cache.folder() / "alva" / "packages" / f"{key}-{sys.implementation.cache_tag}"
    with contextlib.suppress(OSError):
        _link(cache, folder, is_wanted=lambda _, own: not own.exists())
    yield
    with contextlib.suppress(OSError):
        _link(folder, cache, is_wanted=lambda own, cached: not _are_equal(own, cached))
        _prune(cache)


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
    """Remove the bytecode of packages that nothing has used for a month."""
    os.utime(cache)
    for folder in cache.parent.iterdir():
        if time.time() - folder.stat().st_mtime > _UNUSED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    with of_all_packages():
        ended = subprocess.run([sys.executable, "-P", "-m", *sys.argv[1:]], check=False)
    sys.exit(ended.returncode)
