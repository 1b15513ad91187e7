"""The history of the schema in the image that migrations run with: what a release judges is what will run."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from pathlib import Path

from alva.aws import Aws
from alva.checks.revisions import Revision, read_revisions
from alva.errors import AlvaError
from alva.oci import read_folder, write_folder
from alva.release.images import Builder, is_published, layers
from alva.release.manifest import Manifest


def revisions_in_image(
    aws: Aws, manifest: Manifest, builder: Builder, digest: str, cache: Path
) -> tuple[Revision, ...] | None:
    """The history in the migration's image, wherever that is; None where nobody has the image, or wants it judged.

    `cache` keeps what was read and judged. Raises AlvaError where the image has no such folder, or none that can be
    read.
    """
    path, service = manifest.migration.folder, manifest.service(manifest.migration.service)
    if path is None:
        return None
    try:
        if builder.has(digest):
            folder = builder.find_folder(digest, path)
        elif is_published(aws, service.repository, digest):
            folder = _download(aws, service.repository, digest, path, cache / "migrations")
        else:
            return None
    except (OSError, tarfile.TarError) as error:
        raise AlvaError(
            f"cannot read the migrations in the image of {service.name}",
            evidence=[digest, f"{type(error).__name__}: {error}"],
        ) from error
    if folder is None:
        raise AlvaError(
            f"cannot judge the migrations: the image of {service.name} has no folder {path}",
            evidence=[digest],
            next_step="let `folder` of MIGRATION (infrastructure/lib/config/services.py) say where its migrations are",
        )
    return read_revisions(folder, cache / "revisions")


def _download(aws: Aws, repository: str, digest: str, path: str, cache: Path) -> Path | None:
    """The folder of an image in its repository, as files here; an image's content never changes."""
    kept = cache / hashlib.sha256(f"{digest} {path}".encode()).hexdigest()[:32]
    if kept.is_dir():
        return kept
    files = read_folder(layers(aws, repository, digest), path)
    if files is None:
        return None
    cache.mkdir(parents=True, exist_ok=True)
    complete = write_folder(files, Path(tempfile.mkdtemp(dir=cache)))
    try:
        complete.rename(kept)
    except OSError:  # another run was faster
        shutil.rmtree(complete, ignore_errors=True)
    return kept
