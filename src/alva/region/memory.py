"""Memory limits of tasks and containers, as control groups of this machine (version 1 or 2).

A task's group contains its containers' groups. As on Fargate, the kernel kills a process that exceeds either limit. If
the region cannot create groups, nothing is limited, and `description` has the reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import signal
import time
from pathlib import Path

logger = logging.getLogger("alva.memory")

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
_CLEAR_SECONDS = 5.0
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
"""The `reason` of a container that the kernel has killed.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html"""


class Group:
    """A control group with a limit."""

    def __init__(self, folder: Path, *, is_unified: bool) -> None:
        self.folder = folder
        self.is_unified = is_unified
        """Whether this is a version 2 group."""

    @property
    def out_of_memory_kills(self) -> int:
        """The number of its processes that the kernel has killed because of the limit."""
        file = "memory.events" if self.is_unified else "memory.oom_control"
        try:
            lines = (self.folder / file).read_text().splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) for line in lines if line.split()[:1] == ["oom_kill"])

    def limit(self, limit_bytes: int | None) -> None:
        """Set the limit; with None, only the parent group's limit applies."""
        if limit_bytes is None:
            return
        file = "memory.max" if self.is_unified else "memory.limit_in_bytes"
        (self.folder / file).write_text(str(limit_bytes))
        # A task has no swap space. The file is missing where the kernel does not account for swap.
        swap, value = ("memory.swap.max", 0) if self.is_unified else ("memory.memsw.limit_in_bytes", limit_bytes)
        with contextlib.suppress(OSError):
            if (self.folder / swap).exists():
                (self.folder / swap).write_text(str(value))

    def child(self, name: str, limit_bytes: int | None) -> Group:
        """A group within this one. Raises OSError."""
        if self.is_unified:
            _delegate(self.folder)
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        group = Group(folder, is_unified=self.is_unified)
        group.limit(limit_bytes)
        return group

    def remove(self) -> None:
        """Remove it with its child groups. A group that still has a process remains until a region starts."""
        for folder, _, _ in os.walk(self.folder, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError as error:
                logger.debug("cannot remove control group %s: %s", folder, error)

    def clear(self) -> None:
        """SIGKILL every process in it, and remove it."""
        deadline = time.monotonic() + _CLEAR_SECONDS
        while self.folder.exists():
            for folder, _, _ in os.walk(self.folder):
                with contextlib.suppress(OSError):
                    # 0 stands for a process of another process namespace, but for kill(2) it is our own process group.
                    for pid in set((Path(folder) / "cgroup.procs").read_text().split()) - {"0"}:
                        os.kill(int(pid), signal.SIGKILL)
            self.remove()
            if time.monotonic() > deadline:
                logger.warning("cannot remove control group %s: its processes do not end", self.folder)
                return
            time.sleep(0.01)  # wait until the kernel has ended them


class MemoryLimits:
    """Creates the groups of one region, below the region's group."""

    def __init__(self, home: Path, control_groups: Path = _CONTROL_GROUPS) -> None:
        """`home` identifies the region's group; `control_groups` is the mount point of control groups."""
        self._root: Group | None = None
        self.description = ""
        """Whether limits are enforced, and if not, why; shown by `./alva status`."""
        try:
            self._root = _make_root(home, control_groups)
            self.description = f"enforced (control groups, version {2 if self._root.is_unified else 1})"
        except OSError as error:
            self.description = f"not enforced ({error})"

    def task(self, task_id: str, limit_bytes: int | None) -> Group | None:
        """The group of a task; None if limits are not enforced."""
        if self._root is None:
            return None
        try:
            return self._root.child(task_id, limit_bytes)
        except OSError as error:
            logger.error("cannot limit the memory of task %s: %s", task_id, error)
            return None

    def remove_leftovers(self) -> None:
        """Remove the groups of a killed region, with their processes."""
        if self._root is not None:
            for folder in [entry for entry in self._root.folder.iterdir() if entry.is_dir()]:
                Group(folder, is_unified=self._root.is_unified).clear()

    def close(self) -> None:
        """Remove the region's group."""
        if self._root is not None:
            self._root.remove()


def remove_all(home: Path, control_groups: Path = _CONTROL_GROUPS) -> None:
    """Remove the groups of a killed region of this home, with their processes."""
    group_of(home, control_groups).clear()


def group_of(home: Path, control_groups: Path = _CONTROL_GROUPS) -> Group:
    """A region's own group. It is at the top level, wherever the region was started, so that the next region finds it.

    In version 2 it could not be below the region's present group: a group with processes cannot delegate controllers.
    """
    name = f"alva-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
    if (control_groups / "cgroup.controllers").exists():
        return Group(control_groups / name, is_unified=True)
    return Group(control_groups / "memory" / name, is_unified=False)


def _make_root(home: Path, control_groups: Path) -> Group:
    """Create a region's group, and test it. Raises OSError."""
    group = group_of(home, control_groups)
    if group.is_unified:
        _delegate(control_groups)
    elif not (control_groups / "memory" / "memory.limit_in_bytes").exists():
        raise OSError("this machine has no control groups for memory")
    group.folder.mkdir(exist_ok=True)
    # Test the permissions: in a container the files can exist and not be writable.
    group.child("probe", 2**30).remove()
    return group


def _delegate(folder: Path) -> None:
    """Enable memory limits for the groups below `folder` (version 2)."""
    file = folder / "cgroup.subtree_control"
    if "memory" not in file.read_text().split():
        file.write_text("+memory")
