"""Images without Docker: a Dockerfile becomes a folder of immutable, content-addressed layers that tasks run from.

`dockerfile.py` parses, `build.py` executes, `store.py` stores, `registry.py` registers with ECR.
"""

from alva.region.images.build import NotBuildable, build
from alva.region.images.registry import push
from alva.region.images.store import Image, ImageStore

__all__ = ["Image", "ImageStore", "NotBuildable", "build", "push"]
