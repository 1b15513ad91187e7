"""Writes OCI image layouts with the given files, for tests."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from alva.oci import Layout

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"


def tar(entries: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A layer's archive, not compressed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def file_entry(name: str, content: bytes = b"", mode: int = 0o644, uid: int = 0, gid: int = 0) -> tuple[Any, bytes]:
    """A regular file of a layer."""
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.uid, info.gid = len(content), mode, uid, gid
    return info, content


def entry(name: str, kind: bytes, target: str = "", mode: int = 0o755, uid: int = 0, gid: int = 0) -> tuple[Any, bytes]:
    """A folder, link or other entry without content."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.uid, info.gid = kind, target, mode, uid, gid
    return info, b""


def write_layout(
    folder: Path,
    *layers: Mapping[str, bytes] | bytes,
    config: Mapping[str, Any] | None = None,
    architecture: str = "amd64",
) -> Layout:
    """Write an image of `layers` (files by name, or a whole archive) to `folder` and read it."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return f"sha256:{digest}"

    archives = [
        layer if isinstance(layer, bytes) else tar(file_entry(name, content) for name, content in layer.items())
        for layer in layers
    ]
    packed = [gzip.compress(archive, 1, mtime=0) for archive in archives]
    configuration = json.dumps(
        {
            "os": "linux",
            "architecture": architecture,
            "config": dict(config or {}),
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(archive).hexdigest()}" for archive in archives],
            },
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": put(configuration), "size": len(configuration)},
            "layers": [{"mediaType": LAYER_TYPE, "digest": put(content), "size": len(content)} for content in packed],
        }
    ).encode()
    descriptor = {"mediaType": MANIFEST_TYPE, "digest": put(manifest), "size": len(manifest)}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [descriptor]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return Layout.read(folder)
