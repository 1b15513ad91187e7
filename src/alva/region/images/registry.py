"""An image's way into ECR: what is registered is its manifest, by the digest that names the image everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from alva.region.images.store import Image

if TYPE_CHECKING:
    from mypy_boto3_ecr import ECRClient


def push(image: Image, repository: str, tags: Sequence[str], client: ECRClient) -> str:
    """Register `image` in the ECR repository under each of `tags` and return its digest. Safe to repeat.

    Raises botocore's ClientError as ECR gives it (RepositoryNotFoundException, say).
    """
    raise NotImplementedError
