"""Folders as values: copied, compiled and named by what they hold."""

from __future__ import annotations

import hashlib
import os
import py_compile
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_BYTECODE = "__pycache__"


def digest_tree(root: Path, *, owner: str = "") -> tuple[str, int]:
    """The content digest of a folder ("sha256:...") and its size in bytes.

    Paths, contents, links, permissions and `owner` count; times and order do not. Nor does Python's bytecode, which
    follows from the sources without being the same each time.
    """
    total = hashlib.sha256(f"tree 1 {owner}\n".encode())
    size = 0
    for path, entry in walk(root):
        if _BYTECODE in path.split("/"):
            size += 0 if entry.is_dir(follow_symlinks=False) else entry.stat(follow_symlinks=False).st_size
            continue
        total.update(describe(path, Path(entry.path)).encode())
        size += entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
    return f"sha256:{total.hexdigest()}", size


def describe(path: str, file: Path, *, mode: int | None = None) -> str:
    """One line that tells the file, link or folder `file`, to be called `path`, from any other. Raises OSError."""
    status = file.lstat()
    if stat.S_ISLNK(status.st_mode):
        return f"{path!r} link {str(file.readlink())!r}\n"
    permissions = stat.S_IMODE(status.st_mode) if mode is None else mode
    if stat.S_ISDIR(status.st_mode):
        return f"{path!r} folder {permissions:o}\n"
    with file.open("rb") as content:
        return f"{path!r} file {permissions:o} {hashlib.file_digest(content, 'sha256').hexdigest()}\n"


def walk(root: Path, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below `root`, folders before what they hold, each with its path relative to `root`."""
    with os.scandir(root) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        path = f"{prefix}{entry.name}"
        yield path, entry
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path), f"{path}/")


def permissions_of(file: Path) -> int:
    """What a file of the working tree gets in an image: readable for all, executable if it is; no umask matters."""
    return 0o755 if file.is_dir() or file.stat().st_mode & stat.S_IXUSR else 0o644


def copy_file(source: Path, target: Path, *, mode: int | None = None) -> None:
    """Copy a file or link; permissions are `mode`, or made independent of the umask; the time is kept."""
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
    """Give `target` the content of the folder `source` without copying bytes: both are immutable."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copystat(source, target)
    for path, entry in walk(source):
        place = target / path
        if entry.is_dir(follow_symlinks=False):
            place.mkdir(exist_ok=True)
            shutil.copystat(entry.path, place)
        else:
            place.unlink(missing_ok=True)
            link_file(Path(entry.path), place)


def link_file(source: Path, target: Path) -> None:
    """A second name for an immutable file or link; a copy where the file system has no more links to give."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def merge_copy(sources: Iterable[Path], target: Path) -> None:
    """Copy the content of each folder into `target`, later over earlier, for somebody who will write there."""
    for source in sources:
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


def change_owner(root: Path, uid: int, gid: int) -> None:
    """Give everything below `root` to uid:gid; without root, as user namespaces have it, nobody can."""
    if os.geteuid() == 0:
        for _, entry in walk(root):
            os.chown(entry.path, uid, gid, follow_symlinks=False)


def change_mode(root: Path, mode: int) -> None:
    """Give every file below `root` the permissions `mode`; folders stay open to whom they were."""
    for _, entry in walk(root):
        if entry.is_file(follow_symlinks=False):
            Path(entry.path).chmod(mode)


def compile_python(root: Path) -> None:
    """Compile each Python file below `root` that has no bytecode: a task's files are read-only.

    The bytecode is never compared with its source (PEP 552, unchecked): an image does not change. A file that does not
    compile is left to fail when it is imported, as it would from Docker's image.
    """
    tag = f".{sys.implementation.cache_tag}.pyc"
    for path, entry in walk(root):
        if not path.endswith(".py") or not entry.is_file(follow_symlinks=False):
            continue
        file = Path(entry.path)
        bytecode = file.parent / _BYTECODE / (file.stem + tag)
        if bytecode.exists():
            continue
        py_compile.compile(
            str(file),
            cfile=str(bytecode),
            dfile=f"/{path}",
            quiet=2,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of `folders` that are empty, the deepest first."""
    for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
