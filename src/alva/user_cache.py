"""The user's cache folder, and immutable files that it shares by hard links."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path


def folder() -> Path:
    """XDG_CACHE_HOME or ~/.cache: https://specifications.freedesktop.org/basedir-spec/latest/"""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def link_file(source: Path | str, target: Path | str) -> None:
    """Link an immutable file, or copy it to another file system, or if the limit of links is reached.

    `target` is replaced: to overwrite its content would change every other link to it.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        Path(target).unlink()
        link_file(source, target)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def share_file(source: Path, target: Path) -> None:
    """As `link_file`, where another process may read or add the same file now; makes the folder of `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.{os.getpid()}-{threading.get_ident()}")
    link_file(source, fresh)
    fresh.replace(target)
