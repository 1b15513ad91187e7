"""The volumes of a task. Each is a folder that its containers share, with Fargate's permissions; it is deleted with the
task.

An empty volume belongs to root with mode 0755. If the image has a VOLUME of the mount's path, the volume starts with
the image's mode, owner and content of that path.
https://docs.aws.amazon.com/AmazonECS/latest/developerguide/bind-mounts.html
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path, PurePosixPath

from alva.region.config import RegionConfig
from alva.region.ecs.model import Json, Task
from alva.region.images.store import Image
from alva.region.images.tree import merge_copy
from alva.region.sandbox.layout import MEMORY_FOLDERS

EMPTY_MODE = 0o755


def make_volumes(task: Task, definition: Json, config: RegionConfig) -> dict[str, Path]:
    """Create an empty folder for each volume of the task definition; returns them by name."""
    volumes = {}
    for volume in definition.get("volumes") or []:
        folder = _folder(task, config) / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(EMPTY_MODE)
        volumes[volume["name"]] = folder
    return volumes


def fill_volumes(container: Json, image: Image, user: tuple[int, int] | None, volumes: dict[str, Path]) -> None:
    """Fill the volumes that a container mounts with its image's content, unless another container has done so.

    `user` is the container's user; None is root.
    """
    declared = {PurePosixPath(path) for path in image.volumes}
    for mount in container.get("mountPoints") or []:
        folder, path = volumes[mount["sourceVolume"]], PurePosixPath(mount["containerPath"])
        if path in declared and not any(folder.iterdir()):
            relative = str(path).lstrip("/")
            found = [layer / relative for layer in image.layers if (layer / relative).is_dir()]
            merge_copy(found, folder)
            mode = stat.S_IMODE(found[-1].stat().st_mode) if found else MEMORY_FOLDERS.get(relative, EMPTY_MODE)
            folder.chmod(mode)
            if os.geteuid() == 0 and found:
                status = found[-1].stat()
                os.chown(folder, status.st_uid, status.st_gid)
        elif os.geteuid() != 0 and user is not None and stat.S_IMODE(folder.stat().st_mode) == EMPTY_MODE:
            # A region without root cannot give the folder to root; the mode has the same effect.
            folder.chmod(EMPTY_MODE & ~0o222)


def remove_volumes(task: Task, config: RegionConfig) -> None:
    """Delete the task's volumes."""
    shutil.rmtree(_folder(task, config), ignore_errors=True)


def remove_all_volumes(config: RegionConfig) -> None:
    """Delete volumes that an earlier run of the region left."""
    shutil.rmtree(config.run_folder / "tasks", ignore_errors=True)


def _folder(task: Task, config: RegionConfig) -> Path:
    return config.run_folder / "tasks" / task.id
