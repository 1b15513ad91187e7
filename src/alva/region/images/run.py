"""RUN: executes one command of a build, in a sandbox over the stage so far."""

from __future__ import annotations

import asyncio
import collections
import os
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alva import user_cache
from alva.region.images.dockerfile import Instruction, NotSupported, substitute
from alva.region.images.tree import remove_empty
from alva.region.sandbox import Base, SandboxSpec
from alva.region.supervisor import ProcessSpec, start_process

_UV_CACHE = "/run/uv-cache"
_CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
_NEW_FOLDERS = ("home", "mnt", "opt", "srv", "var")
"""Folders in which a command can create new folders, beside the stage's own; the base's folders are read-only."""
_PASSED_ON = frozenset(
    {
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
        *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"),
        *("UV_HTTP_TIMEOUT", "UV_CONCURRENT_DOWNLOADS", "UV_OFFLINE"),
    }
)
"""Settings for access to registries. They do not affect what is installed, so cache keys do not contain them.
"""
_LAST_LINES = 15
_CANCELLATION_SECONDS = 0.1


@dataclass(frozen=True)
class Mount:
    """RUN --mount: a cache folder, or files of the context."""

    kind: str
    target: str
    source: str = ""


class RunFailed(Exception):
    """The command ended with an exit code other than 0."""

    def __init__(self, code: int, last_lines: Sequence[str]) -> None:
        super().__init__(f"exit code {code}")
        self.code = code
        self.last_lines = last_lines


def read_mounts(instruction: Instruction, variables: Mapping[str, str]) -> list[Mount]:
    """The --mount flags of a RUN. Raises DockerfileError for an unsupported kind or option."""
    mounts = []
    for name, value in instruction.flags:
        if name != "mount":
            continue
        text = substitute(value, variables, instruction.line)
        options = dict(option.partition("=")[::2] for option in text.split(","))
        kind = options.pop("type", "bind")
        target = options.pop("target", None) or options.pop("dst", None) or options.pop("destination", None)
        source = options.pop("source", None) or options.pop("src", "")
        for harmless in ("id", "sharing", "ro", "readonly"):
            options.pop(harmless, None)
        if kind not in ("cache", "bind") or target is None or options:
            raise NotSupported(instruction.line, f"RUN --mount={value} is not supported here")
        mounts.append(Mount(kind, target, source))
    return mounts


def run_in_stage(
    command: Sequence[str],
    root: Path,
    *,
    base: Base,
    environment: Mapping[str, str],
    working_directory: str,
    user: tuple[int, int] | None,
    mounts: Sequence[tuple[Mount, Path]],
    on_line: Callable[[str], None],
    cancelled: threading.Event,
) -> None:
    """Run `command`, which can change the folder `root`, until it ends or `cancelled` is set. Blocking.

    Raises RunFailed (137 when cancelled), SandboxFailed.
    """
    last_lines: collections.deque[str] = collections.deque(maxlen=_LAST_LINES)

    def take(line: str) -> None:
        last_lines.append(line)
        on_line(line)

    made = [root / name for name in _NEW_FOLDERS if not (root / name).exists()]
    for folder in made:
        folder.mkdir()
    (root / working_directory.lstrip("/")).mkdir(parents=True, exist_ok=True)
    targets = {os.path.normpath(os.path.join(working_directory, mount.target)): source for mount, source in mounts}  # noqa: PTH118
    made += _make_mount_points(root, targets)
    kinds = {os.path.normpath(os.path.join(working_directory, mount.target)): mount.kind for mount, _ in mounts}  # noqa: PTH118
    files = {path: source for path, source in targets.items() if kinds[path] == "bind"}
    bundle = _certificate_bundle()
    if bundle is not None:
        files[_CA_BUNDLE] = bundle
    spec = ProcessSpec(
        name=f"RUN {' '.join(command)[:60]}",
        argv=tuple(command),
        environment=_environment(environment, has_bundle=bundle is not None),
        sandbox=SandboxSpec(
            layers=(),
            writable_layer=root,
            base=base.name,
            working_directory=working_directory,
            writable={
                _UV_CACHE: _uv_cache(),
                **{path: source for path, source in targets.items() if kinds[path] == "cache"},
            },
            files=files,
        ),
        user=user,
        on_line=take,
    )
    code = asyncio.run(_run(spec, cancelled))
    for placeholder in (path for path in made if path.is_file() and path.stat().st_size == 0):
        placeholder.unlink()
    remove_empty(path for path in made if path.is_dir())
    if code != 0:
        raise RunFailed(code, list(last_lines))


async def _run(spec: ProcessSpec, cancelled: threading.Event) -> int:
    process = await start_process(spec)
    end = asyncio.ensure_future(process.wait())
    try:
        while not end.done():
            await asyncio.wait({end}, timeout=_CANCELLATION_SECONDS)
            if cancelled.is_set():
                process.kill()
        return end.result().code
    finally:
        process.kill()  # ends the process only after an interruption


def _make_mount_points(root: Path, targets: Mapping[str, Path]) -> list[Path]:
    """Create missing mount points in `root`; returns those created."""
    made = []
    for path, source in targets.items():
        place = root / path.lstrip("/")
        if place.exists() or not (root / path.lstrip("/").partition("/")[0]).is_dir():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            place.mkdir()
        else:
            place.touch()
        made.append(place)
    return made


def _environment(declared: Mapping[str, str], *, has_bundle: bool) -> dict[str, str]:
    passed = {name: value for name, value in os.environ.items() if name in _PASSED_ON}
    if has_bundle:
        passed |= {"SSL_CERT_FILE": _CA_BUNDLE, "PIP_CERT": _CA_BUNDLE, "NODE_EXTRA_CA_CERTS": _CA_BUNDLE}
    # The bytecode of what a command installs comes from the cache of `bytecode.py`.
    return {**passed, "UV_CACHE_DIR": _UV_CACHE, **declared, "UV_COMPILE_BYTECODE": "0"}


def _certificate_bundle() -> Path | None:
    """The authorities that this machine trusts, so that a build can verify a registry behind a company's proxy."""
    for candidate in (os.environ.get("SSL_CERT_FILE"), _CA_BUNDLE, ssl.get_default_verify_paths().cafile):
        if candidate and Path(candidate).is_file():
            return Path(candidate)
    return None


def _uv_cache() -> Path:
    """The machine's uv cache, so that packages which the launcher installed are not downloaded again."""
    folder = Path(os.environ.get("UV_CACHE_DIR") or user_cache.folder() / "uv")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
