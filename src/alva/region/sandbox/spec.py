"""What a sandboxed process sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class SandboxSpec:
    """What a process sees of the machine; everything that is not named here is not there.

    Whatever the image, the process gets the base (`base.py`), a generated /etc, a minimal /dev, its own /proc in a
    process namespace of its own (it is process 1, as in a container), and empty /tmp, /var/tmp, /run and /root.
    """

    layers: tuple[Path, ...]
    """Folders laid over the base, the first lowest. Each holds paths as they are inside, such as `app/api`."""

    base: str = "python"
    """What lies under the layers: `python:X.Y`, `python` (the one that runs this program) or `node`; see
    `base.find_base`.

    "" is nothing: the one layer is a whole root file system, of an image that brings its own system. The process sees
    it under an overlay in memory, with /dev, /proc, /etc/hosts and /etc/resolv.conf from here."""

    writable_layer: Path | None = None
    """Laid over the other layers; the process may write into its folders (the root of a build's stage)."""

    working_directory: str = "/"
    read_only_root: bool = True
    """False lets the process create files outside the image's own folders, in memory; those stay read-only."""

    writable: Mapping[str, Path] = field(default_factory=dict)
    """Path inside -> folder outside, which the process may write to."""

    files: Mapping[str, Path] = field(default_factory=dict)
    """Path inside -> file or folder outside, read-only. Wins over the image: certificates, for example."""

    has_init: bool = False
    """Process 1 is an init (`init.py`) that passes signals on, reaps orphans, and ends as the program does, its child.
    Otherwise the program is process 1 itself: without a handler it ignores SIGTERM."""

    hosts_folder: Path | None = None
    """A folder with a file `hosts`: the process's /etc/hosts, which may be replaced while it runs (see `names.py`)."""
