"""Compiles the Python files of an image, since a task cannot write bytecode. Equal files are compiled once per machine.

The cache is in the user's cache folder, like uv's: the services of a product, and all clones of the repository, install
mostly the same packages.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from alva import user_cache
from alva.region.images.tree import content_digest

_TAG = f".{sys.implementation.cache_tag}.pyc"
_UNUSED_SECONDS = 30 * 86400.0
_DAY_SECONDS = 86400.0


def cache_folder() -> Path:
    """The folder of the cache: `alva/bytecode` in XDG_CACHE_HOME or ~/.cache."""
    return user_cache.folder() / "alva" / "bytecode"


def compile_python(root: Path, cache: Path) -> None:
    """Compile each Python file below `root` that has no bytecode, through the cache in the folder `cache`.

    Python does not check the bytecode against its source (PEP 552, unchecked), since an image does not change. A file
    that does not compile is skipped; importing it fails, as in Docker's image. Raises OSError.
    """
    missing: list[tuple[str, str, str]] = []
    found_any = False
    for source, name, bytecode in _uncompiled(str(root)):
        found_any = True
        cached = f"{cache}/{_key(source, name)}"
        if _is_cached(cached):
            user_cache.link_file(cached, bytecode)
        else:
            missing.append((source, bytecode, cached))
    if missing:
        # In a process of its own, because builds run side by side in the threads of one process.
        command = [sys.executable, "-I", "-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash"]
        names = "\n".join(source for source, *_ in missing)
        subprocess.run([*command, "-s", str(root), "-p", "/", "-i", "-"], input=names, text=True, check=False)
    for _, bytecode, cached in missing:
        if Path(bytecode).exists():
            user_cache.share_file(Path(bytecode), Path(cached))
    if found_any:
        _prune(cache)


def _uncompiled(root: str) -> Iterator[tuple[str, str, str]]:
    """Each source file without bytecode: its path, its path in the image, and the path of its bytecode, whose folder is
    made. Paths are texts, since an image has thousands.
    """
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name != "__pycache__"]
        compiled = Path(folder, "__pycache__")
        existing = {file.name for file in compiled.iterdir()} if compiled.is_dir() else set()
        for name in files:
            source, bytecode = f"{folder}/{name}", name.removesuffix(".py") + _TAG
            if name.endswith(".py") and bytecode not in existing and not Path(source).is_symlink():
                compiled.mkdir(exist_ok=True)
                yield source, source.removeprefix(root), f"{compiled}/{bytecode}"


def _key(source: str, name: str) -> str:
    """The path in the cache of a file's bytecode, for this version of Python.

    It depends on the file's content, its path, and its permissions, which the bytecode has too.
    """
    mode = os.stat(source).st_mode  # noqa: PTH116
    digest = content_digest(source, importlib.util.MAGIC_NUMBER + f"{mode:o} {name}\0".encode()).hexdigest()
    return f"{digest[:2]}/{digest}.pyc"


def _is_cached(file: str) -> bool:
    """Whether the cache has the file, which then counts as used today."""
    try:
        if time.time() - os.stat(file).st_mtime > _DAY_SECONDS:  # noqa: PTH116
            os.utime(file)
    except FileNotFoundError:
        return False
    return True


def _prune(cache: Path) -> None:
    """Remove bytecode that was not used for a month. Runs at most once a day."""
    stamp = cache / "pruned"
    if stamp.exists() and time.time() - stamp.stat().st_mtime < _DAY_SECONDS:
        return
    cache.mkdir(parents=True, exist_ok=True)
    stamp.touch()
    for file in cache.glob("*/*.pyc*"):
        with contextlib.suppress(FileNotFoundError):  # another build prunes too
            if time.time() - file.stat().st_mtime > _UNUSED_SECONDS:
                file.unlink()
