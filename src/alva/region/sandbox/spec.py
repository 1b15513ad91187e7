"""The description of a sandbox: the files, users and processes that a process sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class SandboxSpec:
    """A process's view of the machine. Nothing else is visible.

    With any image, the process has the base (`base.py`), a generated /etc, a minimal /dev, a /proc of its own process
    namespace (it is process 1, as in a container), and empty /tmp, /var/tmp, /run and /root.
    """

    layers: tuple[Path, ...]
    """Folders over the base, the first lowest. Their content has the paths of the inside, such as `app/api`."""

    base: str = "python"
    """The base under the layers: `python:X.Y`, `python` (the one that runs this program) or `node`; see
    `base.find_base`.

    With "" there is no base: the single layer is the whole root file system of an image. The process sees it under an
    overlay in memory, with /dev, /proc, /etc/hosts and /etc/resolv.conf of the region.
    """

    writable_layer: Path | None = None
    """A layer over the others with writable folders (the root of a build's stage)."""

    working_directory: str = "/"
    read_only_root: bool = True
    """If False, the process can create files outside the image's folders, which stay read-only.
    """

    writable: Mapping[str, Path] = field(default_factory=dict)
    """Path inside -> writable folder outside."""

    files: Mapping[str, Path] = field(default_factory=dict)
    """Path inside -> read-only file or folder outside. It overrides the image: certificates, for example."""

    has_init: bool = False
    """Process 1 is an init (`init.py`) that forwards signals, reaps orphans, and ends with its child, the program.
    Otherwise the program is process 1 itself, which ignores SIGTERM without a handler.
    """

    hosts_folder: Path | None = None
    """A folder with a file `hosts`, the process's /etc/hosts, which can be replaced while it runs (see `names.py`)."""
