"""Reads the revisions in the migration's image: what a release judges is what will run."""

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
    """Return the revisions in the migration's image; None if there is no image, or no folder to judge.

    `cache` is the folder of downloads and judgements. Raises AlvaError if the image has no readable folder of
    migrations.
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
            next_step="set `folder` of MIGRATION in infrastructure/lib/config/services.py to the folder in the image",
        )
    return read_revisions(folder, cache / "revisions")


def _download(aws: Aws, repository: str, digest: str, path: str, cache: Path) -> Path | None:
    """Download a folder of an image; it is cached, because an image's content never changes."""
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
