"""Applies the layers of an image to a folder, like a container runtime after a pull.

https://github.com/opencontainers/image-spec/blob/main/layer.md. Modes, links, times and, as root, owners are kept;
whiteouts remove files. Device files are left out: a task has the region's /dev and cannot create devices.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

_GZIP = b"\x1f\x8b"
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_MOST_LINKS = 40


class LayerRefused(ValueError):
    """A layer that cannot be applied."""


def apply_layer(file: Path, root: Path, *, content_digest: str) -> None:
    """Apply the layer in `file` (tar, or gzip of it) to `root`. Blocking.

    Raises OSError, and LayerRefused when the layer is malformed, leads outside of `root`, or has another content digest
    than `content_digest` from the image's configuration.
    """
    with file.open("rb") as packed:
        is_gzip = packed.read(2) == _GZIP
        packed.seek(0)
        unpacked = cast("IO[bytes]", gzip.GzipFile(fileobj=packed)) if is_gzip else packed
        stream = _Hashed(unpacked)
        applied = _Applied(root)
        try:
            with tarfile.open(fileobj=stream, mode="r|") as archive:  # type: ignore[call-overload]
                for entry in archive:
                    applied.take(entry, archive)
            while stream.read(2**20):
                pass
        except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
            raise LayerRefused(f"{file.name}: not a layer of the types tar or tar+gzip: {error}") from error
        applied.finish()
    if stream.digest != content_digest:
        raise LayerRefused(f"{file.name}: its content has the digest {stream.digest}, the image names {content_digest}")


class _Hashed:
    """A stream whose content is hashed as it is read."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._total = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._total.hexdigest()}"

    def read(self, size: int) -> bytes:
        part = self._stream.read(size)
        self._total.update(part)
        return part


class _Applied:
    """One layer while it is applied."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: set[Path] = set()
        """The paths of this layer: a whiteout only removes files of lower layers."""
        self._folders: dict[Path, tarfile.TarInfo] = {}

    def take(self, entry: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        parts = [part for part in PurePosixPath(entry.name).parts if part not in ("/", ".")]
        if ".." in parts:
            raise LayerRefused(f"{entry.name}: leads outside of the image")
        if not parts:
            self._folders[self._root] = entry
            return
        parent = self._resolved(parts[:-1])
        name = parts[-1]
        if name == _OPAQUE:
            for old in list(parent.iterdir()) if parent.is_dir() else []:
                if old not in self._made:
                    _remove(old)
            return
        if name.startswith(_WHITEOUT):
            old = parent / name.removeprefix(_WHITEOUT)
            if old not in self._made:
                _remove(old)
            return
        parent.mkdir(parents=True, exist_ok=True)
        path = parent / name
        if not (entry.isdir() and path.is_dir() and not path.is_symlink()):
            _remove(path)
        self._made.update((path, parent))
        self._make(entry, path, archive)

    def finish(self) -> None:
        """Set the modes and times of folders, which their content has changed."""
        for path, entry in self._folders.items():
            if path.is_dir() and not path.is_symlink():
                _describe(path, entry)

    def _make(self, entry: tarfile.TarInfo, path: Path, archive: tarfile.TarFile) -> None:
        if entry.isdir():
            path.mkdir(exist_ok=True)
            self._folders[path] = entry
        elif entry.issym():
            path.symlink_to(entry.linkname)
            if os.geteuid() == 0:
                os.lchown(path, entry.uid, entry.gid)
        elif entry.islnk():
            *parents, name = (part for part in PurePosixPath(entry.linkname).parts if part not in ("/", "."))
            if ".." in parents or name == "..":
                raise LayerRefused(f"{entry.name}: its link leads outside of the image")
            os.link(self._resolved(parents) / name, path, follow_symlinks=False)
        elif entry.isfile():
            content: Any = archive.extractfile(entry)
            with path.open("wb") as target:
                shutil.copyfileobj(content, target, 2**20)
            _describe(path, entry)
        elif entry.isfifo():
            os.mkfifo(path)
            _describe(path, entry)

    def _resolved(self, parts: list[str]) -> Path:
        """The folder at `parts`, with links followed relative to `root`."""
        path, todo, links = self._root, list(parts), 0
        while todo:
            name = todo.pop(0)
            if name == "..":
                path = path if path == self._root else path.parent
                continue
            path = path / name
            if path.is_symlink():
                links += 1
                if links > _MOST_LINKS:
                    raise LayerRefused(f"{'/'.join(parts)}: too many links")
                target = PurePosixPath(path.readlink())
                path = self._root if target.is_absolute() else path.parent
                todo = [part for part in target.parts if part not in ("/", ".")] + todo
        return path


def _describe(path: Path, entry: tarfile.TarInfo) -> None:
    if os.geteuid() == 0:
        os.chown(path, entry.uid, entry.gid)
    # Without root, the store's owner must be able to read and remove its content.
    mode = entry.mode if os.geteuid() == 0 else entry.mode | (0o700 if entry.isdir() else 0o400)
    path.chmod(stat.S_IMODE(mode))
    os.utime(path, (entry.mtime, entry.mtime))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
