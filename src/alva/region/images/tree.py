"""Operations on folder trees: digests, copies."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from alva.user_cache import link_file

_BYTECODE = "__pycache__"
_BLOCK_BYTES = 65536


def digest_tree(root: Path, *, owner: str = "") -> tuple[str, int]:
    """The content digest of a folder ("sha256:...") and its size in bytes.

    It covers paths, contents, links, permissions and `owner`, and ignores times, order and Python's bytecode, which
    differs from run to run.
    """
    total = hashlib.sha256(f"tree 1 {owner}\n".encode())
    size = 0
    for path, entry in walk(root):
        status = entry.stat(follow_symlinks=False)
        size += status.st_size if stat.S_ISREG(status.st_mode) else 0
        if _BYTECODE not in path.split("/"):
            total.update(_describe(path, entry.path, status).encode())
    return f"sha256:{total.hexdigest()}", size


def describe(path: str, file: Path, *, mode: int | None = None) -> str:
    """One line that identifies the file, link or folder `file` under the name `path`. Raises OSError."""
    return _describe(path, str(file), file.lstat(), mode=mode)


def _describe(path: str, file: str, status: os.stat_result, *, mode: int | None = None) -> str:
    if stat.S_ISLNK(status.st_mode):
        return f"{path!r} link {os.readlink(file)!r}\n"  # noqa: PTH115 - an image has thousands of files
    permissions = stat.S_IMODE(status.st_mode) if mode is None else mode
    if stat.S_ISDIR(status.st_mode):
        return f"{path!r} folder {permissions:o}\n"
    return f"{path!r} file {permissions:o} {content_digest(file).hexdigest()}\n"


def content_digest(file: str, start: bytes = b"") -> hashlib._Hash:
    """The SHA-256 of `start` and a file's content. Raises OSError."""
    digest = hashlib.sha256(start)
    descriptor = os.open(file, os.O_RDONLY)  # hashlib.file_digest makes a buffer of 256 KiB for each file
    try:
        while block := os.read(descriptor, _BLOCK_BYTES):
            digest.update(block)
    finally:
        os.close(descriptor)
    return digest


def walk(root: Path | str, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below `root`, folders before their content, each with its path relative to `root`."""
    with os.scandir(root) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        path = f"{prefix}{entry.name}"
        yield path, entry
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path, f"{path}/")


def permissions_of(file: Path) -> int:
    """The permissions of a file in an image, independent of the umask: readable for all, executable if it is."""
    return 0o755 if file.is_dir() or file.stat().st_mode & stat.S_IXUSR else 0o644


def copy_file(source: Path, target: Path, *, mode: int | None = None) -> None:
    """Copy a file or link with its time. Its permissions are `mode`, by default those of `permissions_of`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    if source.is_symlink():
        target.symlink_to(source.readlink())
        return
    shutil.copyfile(source, target)
    target.chmod(permissions_of(source) if mode is None else mode)
    status = source.stat()
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def link_tree(source: Path, target: Path) -> None:
    """Fill `target` with hard links to the content of the folder `source`: both are immutable."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copystat(source, target)
    for path, entry in walk(source):
        place = f"{target}/{path}"
        if entry.is_dir(follow_symlinks=False):
            Path(place).mkdir(exist_ok=True)
            shutil.copystat(entry.path, place)
        else:
            link_file(entry.path, place)


def merge_copy(sources: Iterable[Path], target: Path) -> None:
    """Copy the content of each folder into `target`, later over earlier, so that it can be changed there."""
    for source in sources:
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


def change_owner(root: Path, uid: int, gid: int) -> None:
    """Set the owner of everything below `root`; impossible without root, also in a user namespace."""
    if os.geteuid() == 0:
        for _, entry in walk(root):
            os.chown(entry.path, uid, gid, follow_symlinks=False)


def change_mode(root: Path, mode: int) -> None:
    """Set the permissions of every file below `root` to `mode`; folders keep their access for others."""
    for _, entry in walk(root):
        if entry.is_file(follow_symlinks=False):
            Path(entry.path).chmod(mode)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove the empty ones among `folders`, the deepest first."""
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
