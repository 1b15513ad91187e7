"""The image store: immutable layers and images by digest. Builds write to it, and tasks run from it.

images/<digest>.json    the manifest and configuration of an image
blobs/sha256/<digest>   an image's configuration as ECR serves it (`blobs.py`)
layers/<digest>/        a layer's files, with their paths in the image
steps/<key>.json        the layer of an instruction with certain inputs: the builds' cache
caches/                 the folders of RUN --mount=type=cache
work/                   unfinished contents, which are renamed into place when complete
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alva.oci.layout import blob_file
from alva.region.images.tree import digest_tree

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIGURATION_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.alva.image.layer.v1.tree"
"""Unlike OCI's tar, a layer is a folder, named by the digest of its content (`tree.digest_tree`)."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """One image, with everything that a container runtime needs to run it."""

    digest: str
    """sha256:... of the manifest, as ECR computes it."""
    base: str
    """The base below the layers: `SandboxSpec.base`."""
    layers: tuple[Path, ...]
    """Folders, the lowest first: `SandboxSpec.layers`."""
    environment: Mapping[str, str]
    """ENV, with the base's PATH."""
    working_directory: str
    user: tuple[int, int] | None
    """USER as numeric uid and gid; None is root."""
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    exposed_ports: tuple[int, ...]
    stop_signal: int
    labels: Mapping[str, str]
    volumes: tuple[str, ...]
    """VOLUME: an empty volume that is mounted at one of these paths gets the path's content and mode."""
    manifest: str
    """The OCI image manifest, registered unchanged as ECR PutImage's imageManifest."""

    @property
    def configuration_digest(self) -> str:
        """The digest of the image's OCI configuration, from its manifest."""
        return str(json.loads(self.manifest)["config"]["digest"])


@dataclass(frozen=True)
class Layer:
    """A layer in the store."""

    digest: str
    size_bytes: int


@dataclass
class Configuration:
    """An image's settings for running it, which a build's instructions set."""

    base: str
    environment: dict[str, str] = field(default_factory=dict)
    working_directory: str = "/"
    user: tuple[int, int] | None = None
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    exposed_ports: tuple[int, ...] = ()
    volumes: tuple[str, ...] = ()
    stop_signal: int = signal.SIGTERM
    labels: dict[str, str] = field(default_factory=dict)


class ImageStore:
    """Images in `folder` (RegionConfig.images_folder). Several processes can use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    # -- images ---

    def find(self, digest: str) -> Image | None:
        """The image with a manifest digest ("sha256:..."), or None if the store does not have all of it."""
        try:
            record: dict[str, Any] = json.loads(self._image_file(digest).read_text())
        except (FileNotFoundError, ValueError):
            return None
        configuration = Configuration(**record["configuration"])
        layers = tuple(self.layer_folder(layer) for layer in record["layers"])
        if not all(layer.is_dir() for layer in layers):
            return None
        return Image(
            digest=digest,
            base=configuration.base,
            layers=layers,
            environment=configuration.environment,
            working_directory=configuration.working_directory,
            user=(configuration.user[0], configuration.user[1]) if configuration.user else None,
            entrypoint=tuple(configuration.entrypoint),
            command=tuple(configuration.command),
            exposed_ports=tuple(configuration.exposed_ports),
            stop_signal=configuration.stop_signal,
            labels=configuration.labels,
            volumes=tuple(configuration.volumes),
            manifest=record["manifest"],
        )

    def add(self, configuration: Configuration, layers: Iterable[Layer]) -> Image:
        """Add an image of layers in the store, and return it. The same content has the same digest."""
        layers = tuple(layers)
        values = asdict(configuration)
        configuration_text = _canonical(_oci_configuration(configuration, layers))
        manifest = _canonical(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST_TYPE,
                "config": {
                    "mediaType": _CONFIGURATION_TYPE,
                    "digest": _sha256(configuration_text),
                    "size": len(configuration_text.encode()),
                },
                "layers": [
                    {"mediaType": _LAYER_TYPE, "digest": layer.digest, "size": layer.size_bytes} for layer in layers
                ],
            }
        )
        digest = _sha256(manifest)
        record = {"manifest": manifest, "configuration": values, "layers": [layer.digest for layer in layers]}
        self._write_text(blob_file(self.folder, _sha256(configuration_text)), configuration_text)
        self._write(self._image_file(digest), record)
        image = self.find(digest)
        assert image is not None, "what was just written"  # noqa: S101
        return image

    def prune(self, keep: Iterable[str], *, unused_for_seconds: float = 7 * 86400) -> int:
        """Remove images whose digests are not in `keep` and results of builds, if they have not been used for a while.

        `keep` must contain the images of running tasks and those for a rollback. Waits for running builds. Returns the
        number of bytes freed.
        """
        kept, kept_layers = set(keep), set[str]()
        with self._lock(fcntl.LOCK_EX):
            self._clear_work()
            for file in self._records("images"):
                if f"sha256:{file.stem}" in kept or time.time() - file.stat().st_mtime <= unused_for_seconds:
                    kept_layers.update(json.loads(file.read_text())["layers"])
                else:
                    file.unlink()
            for file in self._records("steps"):
                if time.time() - file.stat().st_mtime > unused_for_seconds:
                    file.unlink()
                else:
                    kept_layers.add(json.loads(file.read_text())["digest"])
            freed = 0
            for folder in (self.folder / "layers").glob("*"):
                if f"sha256:{folder.name}" not in kept_layers:
                    # Removing a file that other layers share does not free space.
                    files = [path.lstat() for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()]
                    freed += sum(status.st_size for status in files if status.st_nlink == 1)
                    shutil.rmtree(folder)
        return freed

    # -- builds ---

    @contextlib.contextmanager
    def building(self) -> Iterator[None]:
        """Prevent pruning. Unfinished contents of killed builds are removed first."""
        with contextlib.suppress(BlockingIOError), self._lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
            self._clear_work()
        with self._lock(fcntl.LOCK_SH):
            yield

    @contextlib.contextmanager
    def making(self, key: str) -> Iterator[None]:
        """Lock the step `key`, so that parallel builds execute it once."""
        with self._lock(fcntl.LOCK_EX, f"locks/{key}"):
            yield

    @contextlib.contextmanager
    def work_folder(self) -> Iterator[Path]:
        """A temporary folder on the store's file system."""
        (self.folder / "work").mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=self.folder / "work"))
        folder.chmod(0o755)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def find_step(self, key: str) -> Layer | None:
        """The layer of the step `key`, if it exists and is complete."""
        file = self.folder / "steps" / f"{key}.json"
        try:
            layer = Layer(**json.loads(file.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        if not self.layer_folder(layer.digest).is_dir():
            return None
        file.touch()
        return layer

    def add_step(self, key: str, tree: Path, *, owner: str = "") -> Layer:
        """Add the folder `tree` (in a work folder) as the layer of the step `key`, and return the layer."""
        digest, size = digest_tree(tree, owner=owner)
        target = self.layer_folder(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            tree.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            # Another step has made a layer with the same content.
        layer = Layer(digest, size)
        self._write(self.folder / "steps" / f"{key}.json", asdict(layer))
        return layer

    def layer_folder(self, digest: str) -> Path:
        """The path of the layer `digest`, whether it exists or not."""
        return self.folder / "layers" / digest.removeprefix("sha256:")

    def cache_folder(self, name: str) -> Path:
        """A folder that persists between builds, for RUN --mount=type=cache."""
        folder = self.folder / "caches" / hashlib.sha256(name.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _image_file(self, digest: str) -> Path:
        return self.folder / "images" / f"{digest.removeprefix('sha256:')}.json"

    def _records(self, kind: str) -> list[Path]:
        return list((self.folder / kind).glob("*.json"))

    def _clear_work(self) -> None:
        for folder in (self.folder / "work").glob("*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _write(self, file: Path, value: object) -> None:
        self._write_text(file, _canonical(value))

    def _write_text(self, file: Path, text: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with self.work_folder() as work:
            (work / "record").write_text(text)
            (work / "record").replace(file)

    @contextlib.contextmanager
    def _lock(self, operation: int, name: str = "lock") -> Iterator[None]:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, operation)
            yield


def _oci_configuration(configuration: Configuration, layers: tuple[Layer, ...]) -> dict[str, object]:
    """See https://github.com/opencontainers/image-spec/blob/main/config.md; the creation time is left out."""
    user = configuration.user
    return {
        "os": "linux",
        "base": configuration.base,
        "config": {
            "User": f"{user[0]}:{user[1]}" if user else "",
            "Env": [f"{name}={value}" for name, value in sorted(configuration.environment.items())],
            "WorkingDir": configuration.working_directory,
            "Entrypoint": list(configuration.entrypoint),
            "Cmd": list(configuration.command),
            "ExposedPorts": {f"{port}/tcp": {} for port in configuration.exposed_ports},
            "Labels": configuration.labels,
            **({"Volumes": {path: {} for path in configuration.volumes}} if configuration.volumes else {}),
            "StopSignal": signal.Signals(configuration.stop_signal).name,
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in layers]},
    }


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _sha256(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
