"""What was pushed into the region's registry: contents by digest, and which repository has which.

blobs/sha256/<hex>            a layer, configuration or manifest, as an OCI layout has it
repositories/<name>/<hex>     an empty file: that repository has that content
uploads/<id>                  what is being received
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
"""How long an upload may wait for its next part."""


class DigestMismatch(ValueError):
    """The content that was received has another digest than was said."""


@dataclass
class Upload:
    """A content while it is received."""

    id: str
    repository: str
    file: Path
    total: hashlib._Hash = field(default_factory=hashlib.sha256)
    size: int = 0
    touched: float = field(default_factory=time.monotonic)

    def write(self, part: bytes) -> None:
        """Take the next part."""
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
        """Forget what an earlier region was receiving when it ended."""
        shutil.rmtree(self.folder / "uploads", ignore_errors=True)

    def file(self, digest: str) -> Path:
        """Where that content is, or would be. Raises ValueError for what is no SHA-256 digest."""
        return blob_file(self.folder, digest)

    def has(self, repository: str, digest: str) -> bool:
        """Whether the repository has that content."""
        return self._link(repository, digest).exists() and self.file(digest).is_file()

    def add(self, repository: str, content: bytes) -> str:
        """Keep a small content, such as a manifest; its digest."""
        upload = self.begin(repository)
        upload.write(content)
        return self.finish(upload, f"sha256:{upload.total.hexdigest()}")

    def mount(self, digest: str, source: str, target: str) -> bool:
        """Give `target` a content that `source` has; False when it does not have it."""
        if not self.has(source, digest):
            return False
        self.link(target, digest)
        return True

    def begin(self, repository: str) -> Upload:
        """Begin to receive a content."""
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
        """Keep what was received. Raises DigestMismatch, and keeps nothing, when it is something else."""
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
        """Forget what was received."""
        self._uploads.pop(upload.id, None)
        upload.file.unlink(missing_ok=True)

    def prune(self, keep: set[str], *, unused_for_seconds: float) -> int:
        """Remove the older contents whose digests are not in `keep`; the number of bytes that were freed."""
        freed, now = 0, time.time()
        for file in (self.folder / "blobs" / "sha256").glob("*"):
            if f"sha256:{file.name}" not in keep and now - file.stat().st_mtime > unused_for_seconds:
                freed += file.stat().st_size
                file.unlink()
                for link in (self.folder / "repositories").rglob(file.name):
                    link.unlink()
        return freed

    def link(self, repository: str, digest: str) -> None:
        """Record that the repository has that content."""
        link = self._link(repository, digest)
        link.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.touch()

    def _link(self, repository: str, digest: str) -> Path:
        return self.folder / "repositories" / repository / self.file(digest).name
