"""Where the images of a release come from, and their way into ECR, by digest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from alva.aws import Aws, error_code, explained
from alva.release.manifest import Service

Line = Callable[[str], None]


class Builder(Protocol):
    """Makes a service's image. The CLI gives one to the engine: without Docker for the local region."""

    def build(self, service: Service, line: Line) -> str:
        """Build the image and return its digest ("sha256:..."); raises BuildFailed. Safe to call side by side."""

    def has(self, digest: str) -> bool:
        """Whether this builder holds the image, and so could push it."""

    def find_folder(self, digest: str, path: str) -> Path | None:
        """The folder at `path` inside the image, as it can be read here; None when it cannot."""

    def push(self, service: Service, digest: str, tag: str, aws: Aws) -> None:
        """Put the built image into the service's repository."""


def tag_of(digest: str) -> str:
    """The tag of a digest: made from it, since repositories do not let a tag move."""
    return digest.removeprefix("sha256:")[:20]


def is_published(aws: Aws, repository: str, digest: str) -> bool:
    """Whether the repository has the image; False also when there is no such repository yet."""
    with explained(f"look for an image in repository {repository}"):
        try:
            found = aws.ecr.describe_images(repositoryName=repository, imageIds=[{"imageDigest": digest}])
        except Exception as error:
            if error_code(error) in ("ImageNotFoundException", "RepositoryNotFoundException"):
                return False
            raise
    return any(image.get("imageDigest") == digest for image in found["imageDetails"])
