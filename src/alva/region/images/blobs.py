"""The contents that were pushed to the region's registry, by digest, and the repositories that have them.

blobs/sha256/<hex>            a layer, configuration or manifest, as in an OCI layout
repositories/<name>/<hex>     an empty file: that repository has that content
uploads/<id>                  an unfinished upload
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from alva.oci.layout import blob_file

UPLOAD_SECONDS = 3600.0
"""The longest time between two parts of an upload."""


class DigestMismatch(ValueError):
    """The received content has another digest than announced."""


@dataclass
class Upload:
    """A content that is being received."""

    id: str
    repository: str
    file: Path
    total: hashlib._Hash = field(default_factory=hashlib.sha256)
    size: int = 0
    touched: float = field(default_factory=time.monotonic)

    def write(self, part: bytes) -> None:
        """Write the next part."""
        with self.file.open("ab") as stream:
            stream.write(part)
        self.total.update(part)
        self.size += len(part)
        self.touched = time.monotonic()


class Blobs:
    """The contents in `folder` (RegionConfig.images_folder). Used on the region's event loop."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._uploads: dict[str, Upload] = {}

    def clear_uploads(self) -> None:
        """Delete unfinished uploads of an earlier run of the region."""
        shutil.rmtree(self.folder / "uploads", ignore_errors=True)

    def file(self, digest: str) -> Path:
        """The path of a content, whether it exists or not. Raises ValueError if this is not a SHA-256 digest."""
        return blob_file(self.folder, digest)

    def has(self, repository: str, digest: str) -> bool:
        """Whether the repository has the content."""
        return self._link(repository, digest).exists() and self.file(digest).is_file()

    def add(self, repository: str, content: bytes) -> str:
        """Store a small content, such as a manifest; returns its digest."""
        upload = self.begin(repository)
        upload.write(content)
        return self.finish(upload, f"sha256:{upload.total.hexdigest()}")

    def mount(self, digest: str, source: str, target: str) -> bool:
        """Add a content of `source` to `target`; False if `source` does not have it."""
        if not self.has(source, digest):
            return False
        self.link(target, digest)
        return True

    def begin(self, repository: str) -> Upload:
        """Start an upload."""
        now = time.monotonic()
        for late in [upload for upload in self._uploads.values() if now - upload.touched > UPLOAD_SECONDS]:
            self.abandon(late)
        name = str(uuid.uuid4())
        folder = self.folder / "uploads"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        upload = self._uploads[name] = Upload(name, repository, folder / name)
        return upload

    def find_upload(self, name: str, repository: str) -> Upload | None:
        """The upload of that name in that repository."""
        upload = self._uploads.get(name)
        return upload if upload is not None and upload.repository == repository else None

    def finish(self, upload: Upload, digest: str) -> str:
        """Store the received content. Raises DigestMismatch, and deletes it, if it has another digest."""
        target = self.file(digest)
        if digest != f"sha256:{upload.total.hexdigest()}":
            self.abandon(upload)
            raise DigestMismatch(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        upload.file.replace(target)
        self._uploads.pop(upload.id, None)
        self.link(upload.repository, digest)
        return digest

    def abandon(self, upload: Upload) -> None:
        """Delete the received content."""
        self._uploads.pop(upload.id, None)
        upload.file.unlink(missing_ok=True)

    def prune(self, keep: set[str], *, unused_for_seconds: float) -> int:
        """Remove old contents whose digests are not in `keep`; returns the number of bytes freed."""
        freed, now = 0, time.time()
        for file in (self.folder / "blobs" / "sha256").glob("*"):
            if f"sha256:{file.name}" not in keep and now - file.stat().st_mtime > unused_for_seconds:
                freed += file.stat().st_size
                file.unlink()
                for link in (self.folder / "repositories").rglob(file.name):
                    link.unlink()
        return freed

    def link(self, repository: str, digest: str) -> None:
        """Record that the repository has the content."""
        link = self._link(repository, digest)
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.touch()

    def _link(self, repository: str, digest: str) -> Path:
        return self.folder / "repositories" / repository / self.file(digest).name
