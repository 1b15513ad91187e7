"""Sandboxes: a process sees an image's files over a read-only base, and its own /etc, /tmp and processes.

`spec.py` describes a view, `base.py` the files under every image, and `launch.py` creates the view: it runs as a
short-lived child of the supervisor, enters new namespaces, mounts the files and executes the program.
"""

from alva.region.sandbox.base import Base, choose_python, find_base
from alva.region.sandbox.spec import SandboxSpec

__all__ = ["Base", "SandboxSpec", "choose_python", "find_base"]
