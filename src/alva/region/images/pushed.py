"""Prepares pushed images for running: each is unpacked at first use into a root file system.

roots/<digest of the manifest>/    the image's files
"""

from __future__ import annotations

import contextlib
import json
import platform
import shlex
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from alva.oci.layout import INDEX_TYPES
from alva.region.images.blobs import Blobs
from alva.region.images.store import Image, ImageStore
from alva.region.images.unpack import LayerRefused, apply_layer
from alva.region.images.users import find_user

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""The machine's name of its architecture -> an image's name of it."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""A container runtime's PATH for an image without one."""


class NotRunnable(ValueError):
    """An image that this machine cannot run."""


def find_pushed(store: ImageStore, digest: str) -> Image | None:
    """The pushed image of a digest, unpacked if necessary; None if it was not pushed.

    For an index, it is the image for this machine. Blocking (seconds at first use). Raises NotRunnable with the reason.
    """
    blobs = Blobs(store.folder)
    file = blobs.file(digest)
    if not file.is_file():
        return None
    text = file.read_text()
    manifest: dict[str, Any] = json.loads(text)
    if manifest.get("mediaType") in INDEX_TYPES or "manifests" in manifest:
        return find_pushed(store, _for_this_machine(manifest))
    configuration: dict[str, Any] = json.loads(blobs.file(manifest["config"]["digest"]).read_text())
    root = store.folder / "roots" / digest.removeprefix("sha256:")
    with store.making(f"root-{root.name}"):
        if not root.is_dir():
            _unpack(blobs, manifest, configuration, root)
    return _image(digest, text, configuration.get("config") or {}, root)


def prune(store: ImageStore, keep: set[str], *, unused_for_seconds: float = 7 * 86400) -> int:
    """Remove built and pushed contents that have not been used for a while and belong to no image in `keep`; returns
    the bytes freed.

    `keep` holds digests of manifests. Blocking.
    """
    blobs = Blobs(store.folder)
    contents: set[str] = set()
    for digest in keep:
        contents |= _parts(blobs, digest)
        if (built := store.find(digest)) is not None:
            contents.add(built.configuration_digest)
    now = time.time()
    freed = store.prune(keep, unused_for_seconds=unused_for_seconds)
    for root in (store.folder / "roots").glob("*"):
        if f"sha256:{root.name}" not in contents and now - root.stat().st_ctime > unused_for_seconds:
            freed += sum(path.lstat().st_size for path in root.rglob("*"))
            shutil.rmtree(root, ignore_errors=True)
    return freed + blobs.prune(contents, unused_for_seconds=unused_for_seconds)


def _parts(blobs: Blobs, digest: str) -> set[str]:
    """The digests of all parts of an image or index, including its own."""
    file = blobs.file(digest)
    if not file.is_file():
        return {digest}
    manifest = json.loads(file.read_text())
    parts = {digest, *(layer["digest"] for layer in manifest.get("layers", []))}
    if "config" in manifest:
        parts.add(manifest["config"]["digest"])
    for each in manifest.get("manifests", []):
        parts |= _parts(blobs, each["digest"])
    return parts


def _for_this_machine(index: dict[str, Any]) -> str:
    wanted = ARCHITECTURES.get(platform.machine(), platform.machine())
    for each in index["manifests"]:
        stated = each.get("platform") or {}
        if stated.get("os") == "linux" and stated.get("architecture") == wanted:
            return str(each["digest"])
    raise NotRunnable(f"image Manifest does not contain descriptor matching platform 'linux/{wanted}'")


def _unpack(blobs: Blobs, manifest: dict[str, Any], configuration: dict[str, Any], root: Path) -> None:
    root.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".", dir=root.parent))
    try:
        for layer, content_digest in zip(manifest["layers"], configuration["rootfs"]["diff_ids"], strict=True):
            apply_layer(blobs.file(layer["digest"]), work, content_digest=content_digest)
        work.chmod(0o755)
        work.rename(root)
    except (LayerRefused, KeyError, ValueError) as error:
        raise NotRunnable(f"failed to extract layer: {error}") from error
    finally:
        if work.exists():
            shutil.rmtree(work, ignore_errors=True)


def _image(digest: str, manifest: str, config: dict[str, Any], root: Path) -> Image:
    environment = {"PATH": DEFAULT_PATH}
    environment |= {name: value for name, _, value in (each.partition("=") for each in config.get("Env") or [])}
    try:
        user = find_user(config.get("User") or "", root)
    except LookupError as error:
        raise NotRunnable(str(error)) from error
    return Image(
        digest=digest,
        base="",
        layers=(root,),
        environment=environment,
        working_directory=config.get("WorkingDir") or "/",
        user=user,
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        exposed_ports=tuple(
            sorted(
                int(port.partition("/")[0]) for port in config.get("ExposedPorts") or {} if not port.endswith("/udp")
            )
        ),
        stop_signal=_signal(config.get("StopSignal") or "SIGTERM"),
        labels=config.get("Labels") or {},
        volumes=tuple(sorted(config.get("Volumes") or {})),
        manifest=manifest,
    )


def _signal(name: str) -> int:
    if name.isdigit():
        return int(name)
    with contextlib.suppress(KeyError):
        return int(signal.Signals["SIG" + name.upper().removeprefix("SIG")])
    raise NotRunnable(f"the image's stop signal {shlex.quote(name)} is unknown")
