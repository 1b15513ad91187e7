"""Computes the layout of a sandbox's files: its folders, links, files and mounts, in order.

The result is a list of steps for `launch.py`. Nothing is copied: a folder of one layer is one bind mount; a folder of
several layers is a folder in memory with its entries bound, recursively.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from alva.errors import SandboxFailed
from alva.region.sandbox import init
from alva.region.sandbox.base import Base
from alva.region.sandbox.spec import SandboxSpec

Step = tuple[Any, ...]
"""("folder", path, mode) · ("memory", path, mode) · ("link", path, target) · ("text", path, content)
· ("bind", path, source, is_folder, is_writable) · ("over", path, source, is_writable); paths are absolute, inside.
For an image with a root of its own, where a path may exist already or lead through links: ("root", "", folder)
· ("tmpfs", path, mode) · ("directory", path) · ("place", path, source, is_folder, is_writable)
· ("replace", path, content) · ("relink", path, target)."""

NAMES_FOLDER = "/run/names"
MEMORY_FOLDERS = {"tmp": 0o1777, "var/tmp": 0o1777, "run": 0o755, "root": 0o700, "dev/shm": 0o1777}
"""Folders of an image without a root of its own -> their mode."""
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_DEVICE_LINKS = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}
_MOST_LINKS = 40


@dataclass
class _Folder:
    """A folder in memory, with entries of several sources."""

    entries: dict[str, _Entry] = field(default_factory=dict)
    mode: int = 0o755
    is_memory: bool = False
    """Its own tmpfs, writable even where the root is not."""


@dataclass
class _Bind:
    source: Path
    is_folder: bool
    is_writable: bool = False


@dataclass
class _Link:
    target: str


@dataclass
class _Text:
    content: str


_Entry = _Folder | _Bind | _Link | _Text


def lay_out(spec: SandboxSpec, base: Base, user: tuple[int, int] | None) -> list[Step]:
    """The steps, in order, that create the view of `spec`.

    Reads only the layers' folders that overlap. Raises SandboxFailed when a layer, file or folder is missing.
    """
    if not base.name:
        return list(_lay_out_root(spec))
    tree = _Tree()
    for path, source in base.folders.items():
        tree.put(path, _bind(source) if source is not None else _Folder())
    for path, target in base.links.items():
        tree.put(path, _Link(target))
    for path, content in _generated_etc(user, base.users).items():
        tree.put(f"etc/{path}", _Text(content))
    for device in _DEVICES:
        tree.put(f"dev/{device}", _Bind(Path("/dev") / device, is_folder=False, is_writable=True))
    for path, target in _DEVICE_LINKS.items():
        tree.put(f"dev/{path}", _Link(target))
    if spec.has_init:
        tree.put(init.INSIDE, _Bind(init.program(), is_folder=False))
    tree.put("proc", _Folder())
    for layer in spec.layers:
        tree.lay(_existing(layer))
    if spec.writable_layer is not None:
        tree.lay(_existing(spec.writable_layer), is_writable=True)
    for path, mode in MEMORY_FOLDERS.items():
        match tree.find(path):
            case None:
                tree.put(path, _Folder(mode=mode, is_memory=True))
            case _Folder() as folder:  # /root, when Python is installed below it
                folder.is_memory = True
            case _ if path == "tmp":
                tree.put(path, _Folder(mode=mode, is_memory=True))
    if spec.hosts_folder is not None:
        tree.put("etc/hosts", _Link(f"{NAMES_FOLDER}/hosts"))
        tree.put(NAMES_FOLDER, _bind(spec.hosts_folder))
    else:
        tree.put("etc/hosts", _bind(Path("/etc/hosts")))
    over = [
        step
        for sources, is_writable in ((spec.files, False), (spec.writable, True))
        for path, source in sources.items()
        for step in tree.bind_over(path, _existing(source), is_writable=is_writable)
    ]
    tree.make_folder(spec.working_directory)
    return [*tree.steps(), *over]


def _lay_out_root(spec: SandboxSpec) -> Iterator[Step]:
    """The steps for an image that is a whole root file system: an overlay over it, and mounts on top."""
    (root,) = spec.layers
    yield ("root", "", str(_existing(root)))
    yield ("tmpfs", "/dev", 0o755)
    for device in _DEVICES:
        yield ("place", f"/dev/{device}", f"/dev/{device}", False, True)
    for name, target in _DEVICE_LINKS.items():
        yield ("link", f"/dev/{name}", target)
    yield ("tmpfs", "/dev/shm", MEMORY_FOLDERS["dev/shm"])  # noqa: S108
    if spec.has_init:
        yield ("place", f"/{init.INSIDE.lstrip('/')}", str(init.program()), False, False)
    yield ("directory", "/proc")
    yield ("replace", "/etc/resolv.conf", _resolver_configuration())
    if spec.hosts_folder is not None:
        yield ("place", NAMES_FOLDER, str(_existing(spec.hosts_folder)), True, False)
        yield ("relink", "/etc/hosts", f"{NAMES_FOLDER}/hosts")
    else:
        yield ("place", "/etc/hosts", "/etc/hosts", False, False)
    yield ("directory", spec.working_directory)
    for sources, is_writable in ((spec.files, False), (spec.writable, True)):
        for path, source in sources.items():
            existing = _existing(source)
            yield ("place", f"/{path.lstrip('/')}", str(existing), existing.is_dir(), is_writable)


class _Tree:
    """The files of a sandbox while the layout is computed."""

    def __init__(self) -> None:
        self._root = _Folder()

    def put(self, path: str, entry: _Entry) -> None:
        """Put `entry` at `path`, which replaces any former entry."""
        *parents, name = _parts(path)
        self._folder(parents).entries[name] = entry

    def find(self, path: str) -> _Entry | None:
        """The entry at exactly `path`, not inside bound folders."""
        entry: _Entry = self._root
        for name in _parts(path):
            if not isinstance(entry, _Folder) or name not in entry.entries:
                return None
            entry = entry.entries[name]
        return entry

    def lay(self, layer: Path, *, is_writable: bool = False) -> None:
        """Add the content of the folder `layer` over the former layers."""
        for name, entry in _entries(layer, is_writable):
            self._lay_entry([name], entry)

    def make_folder(self, path: str) -> None:
        """Make `path` a folder."""
        parts = _parts(path)
        outside = self._outside(parts)
        if outside is None or not outside.is_dir():
            self._folder(parts)

    def bind_over(self, path: str, source: Path, *, is_writable: bool) -> Iterator[Step]:
        """Bind `source` at `path`: as a mount on top if the path exists in a bound folder, else as a new entry."""
        parts = _parts(path)
        outside = self._outside(parts)
        # mount(2) would follow a link from the wrong root.
        if outside is not None and outside.exists() and outside.resolve() == outside:
            yield ("over", "/" + "/".join(parts), str(source), is_writable)
        else:
            self.put(path, _Bind(source, source.is_dir(), is_writable))

    def steps(self) -> Iterator[Step]:
        return self._steps_of("", self._root)

    def _steps_of(self, path: str, entry: _Entry) -> Iterator[Step]:
        match entry:
            case _Folder():
                if path:
                    yield ("memory" if entry.is_memory else "folder", path, entry.mode)
                for name, child in entry.entries.items():
                    yield from self._steps_of(f"{path}/{name}", child)
            case _Bind():
                yield ("bind", path, str(entry.source), entry.is_folder, entry.is_writable)
            case _Link():
                yield ("link", path, entry.target)
            case _Text():
                yield ("text", path, entry.content)

    def _lay_entry(self, parts: list[str], entry: _Entry) -> None:
        *parents, name = parts
        folder = self._folder(parents)
        existing = folder.entries.get(name)
        if isinstance(entry, _Bind) and entry.is_folder:
            if isinstance(existing, _Link):
                # Debian's /bin is a link to usr/bin: an image's files in bin/ go to the link's target.
                parts = _target_parts(parents, existing.target)
                self._folder(parts)
                existing = _Folder()
            if isinstance(existing, _Folder) or (isinstance(existing, _Bind) and existing.is_folder):
                for child, child_entry in _entries(entry.source, entry.is_writable):
                    self._lay_entry([*parts, child], child_entry)
                return
        folder.entries[name] = entry

    def _folder(self, parts: list[str]) -> _Folder:
        """The folder at `parts`: created if missing, expanded into its entries if bound, followed if a link."""
        folder, todo, links = self._root, list(parts), 0
        walked: list[str] = []
        while todo:
            name = todo.pop(0)
            child = folder.entries.get(name)
            match child:
                case _Folder():
                    pass
                case _Bind() if child.is_folder:
                    child = _Folder(dict(_entries(child.source, child.is_writable)))
                    folder.entries[name] = child
                case _Link():
                    links += 1
                    if links > _MOST_LINKS:
                        raise SandboxFailed(f"cannot resolve /{'/'.join(parts)} in the image: too many symbolic links")
                    todo = [*_target_parts(walked, child.target), *todo]
                    folder, walked = self._root, []
                    continue
                case _:
                    child = folder.entries[name] = _Folder()
            folder, walked = child, [*walked, name]
        return folder

    def _outside(self, parts: list[str]) -> Path | None:
        """The file or folder outside that `parts` shows, if it is in a bound folder."""
        entry: _Entry | None = self._root
        for depth, name in enumerate(parts):
            if isinstance(entry, _Bind):
                return entry.source.joinpath(*parts[depth:])
            if not isinstance(entry, _Folder):
                return None
            entry = entry.entries.get(name)
        return entry.source if isinstance(entry, _Bind) else None


def _entries(folder: Path, is_writable: bool) -> Iterator[tuple[str, _Entry]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_symlink():
                yield entry.name, _Link(str(Path(entry.path).readlink()))
            else:
                yield entry.name, _Bind(Path(entry.path), entry.is_dir(), is_writable)


def _bind(source: Path) -> _Bind:
    source = _existing(source)
    return _Bind(source, source.is_dir())


def _existing(source: Path) -> Path:
    """`source` with the links in its path resolved: inside the sandbox they would have other targets."""
    try:
        return source.resolve(strict=True)
    except OSError as error:
        raise SandboxFailed(f"cannot make a sandbox: {source}: {error.strerror}") from error


def _parts(path: str) -> list[str]:
    return [part for part in PurePosixPath(path).parts if part != "/"]


def _target_parts(folder: list[str], target: str) -> list[str]:
    """The target of a link in `folder`, as parts from the root."""
    return _parts(os.path.normpath(os.path.join("/" + "/".join(folder), target)))  # noqa: PTH118 - a path inside


def _generated_etc(user: tuple[int, int] | None, known: Mapping[str, str]) -> dict[str, str]:
    """The files of /etc about users, hosts and names; `known` are the base's users."""
    uid, gid = user or (0, 0)
    users = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    group = "root:x:0:\nnogroup:x:65534:\n"
    for name, number in known.items():
        if number not in ("0", "65534"):
            users += f"{name}:x:{number}:{number}:{name}:/home/{name}:/bin/bash\n"
            group += f"{name}:x:{number}:\n"
    if str(uid) not in known.values():
        users += f"app:x:{uid}:{gid}:app:/:/usr/sbin/nologin\n"
    if str(gid) not in known.values():
        group += f"app:x:{gid}:\n"
    return {
        "passwd": users,
        "group": group,
        "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nprotocols: files\nservices: files\n",
        # Return all addresses of a name in the hosts file, not only the first.
        "host.conf": "multi on\n",
        "resolv.conf": _resolver_configuration(),
    }


def _resolver_configuration() -> str:
    """The machine's resolvers with a short timeout, so that an unknown name fails soon without a network."""
    try:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
    except OSError:
        lines = []
    kept = [line for line in lines if line.split()[:1] == ["nameserver"]]
    return "\n".join([*kept, "options timeout:1 attempts:2", ""])
