"""Memory limits of tasks and containers, as control groups of this machine (version 1 or 2).

A task's group holds its containers' groups; who needs more than either allows is killed by the kernel, as on Fargate.
Where the region may not make groups, nothing is limited, and `description` says why.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from pathlib import Path

logger = logging.getLogger("alva.memory")

_CONTROL_GROUPS = Path("/sys/fs/cgroup")
OUT_OF_MEMORY = "OutOfMemoryError: Container killed due to memory usage"
"""The `reason` of a container that the kernel killed.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/stopped-task-error-codes.html"""


class Group:
    """A control group with a limit, and the processes that were started into it."""

    def __init__(self, folder: Path, *, is_unified: bool) -> None:
        self.folder = folder
        self._is_unified = is_unified

    @property
    def out_of_memory_kills(self) -> int:
        """How many of its processes the kernel has killed because of the limit."""
        file = "memory.events" if self._is_unified else "memory.oom_control"
        try:
            lines = (self.folder / file).read_text().splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) for line in lines if line.split()[:1] == ["oom_kill"])

    def limit(self, limit_bytes: int | None) -> None:
        """Set the limit; None leaves the group to the one around it."""
        if limit_bytes is None:
            return
        file = "memory.max" if self._is_unified else "memory.limit_in_bytes"
        (self.folder / file).write_text(str(limit_bytes))
        # A task has no swap space. Where the kernel does not account for it, there is nothing to say.
        swap, value = ("memory.swap.max", 0) if self._is_unified else ("memory.memsw.limit_in_bytes", limit_bytes)
        with contextlib.suppress(OSError):
            if (self.folder / swap).exists():
                (self.folder / swap).write_text(str(value))

    def child(self, name: str, limit_bytes: int | None) -> Group:
        """A group within this one. Raises OSError."""
        if self._is_unified:
            _delegate(self.folder)
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        group = Group(folder, is_unified=self._is_unified)
        group.limit(limit_bytes)
        return group

    def remove(self) -> None:
        """Remove it with the groups in it; one that still has a process stays, until the next region starts."""
        for folder, _, _ in os.walk(self.folder, topdown=False):
            try:
                Path(folder).rmdir()
            except OSError as error:
                logger.info("control group %s stays: %s", folder, error)


class MemoryLimits:
    """Makes the groups of one region, below a group of its own."""

    def __init__(self, home: Path) -> None:
        """`home` tells this region's group from another's."""
        self._name = f"alva-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"
        self._root: Group | None = None
        self.description = ""
        """For people: whether limits are enforced, and if not why."""
        try:
            self._root, version = self._make_root()
            self.description = f"enforced (control groups, version {version})"
        except OSError as error:
            self.description = f"not enforced ({error})"

    def task(self, task_id: str, limit_bytes: int | None) -> Group | None:
        """The group of a task; None where nothing is limited."""
        if self._root is None:
            return None
        try:
            return self._root.child(task_id, limit_bytes)
        except OSError as error:
            logger.error("the memory of task %s is not limited: %s", task_id, error)
            return None

    def remove_leftovers(self) -> None:
        """Remove what a region that was killed left behind; its processes have ended."""
        if self._root is not None:
            for folder in [entry for entry in self._root.folder.iterdir() if entry.is_dir()]:
                Group(folder, is_unified=False).remove()

    def close(self) -> None:
        """Remove the region's group."""
        if self._root is not None:
            self._root.remove()

    def _make_root(self) -> tuple[Group, int]:
        """Where this region's groups are, and which version. Raises OSError."""
        is_unified = (_CONTROL_GROUPS / "cgroup.controllers").exists()
        if is_unified:
            # At the top: a group with processes in it, as ours is, cannot hand on its controllers.
            _delegate(_CONTROL_GROUPS)
            folder = _CONTROL_GROUPS / self._name
        else:
            folder = _CONTROL_GROUPS / "memory" / _own_memory_group().lstrip("/") / self._name
        folder.mkdir(exist_ok=True)
        group = Group(folder, is_unified=is_unified)
        # Whether it can really be used: a container may have the files and not the right.
        group.child("probe", 2**30).remove()
        return group, 2 if is_unified else 1


def _own_memory_group() -> str:
    """The control group (version 1) of this process for memory. Raises OSError when there is none."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return path
    raise OSError("this machine has no control groups for memory")


def _delegate(folder: Path) -> None:
    """Let the groups below `folder` limit memory (version 2)."""
    file = folder / "cgroup.subtree_control"
    if "memory" not in file.read_text().split():
        file.write_text("+memory")
