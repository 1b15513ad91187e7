"""Images as the Open Container Initiative describes them: a layout on disk, and its way into a registry."""

from alva.oci.layout import Layout
from alva.oci.push import Registry

__all__ = ["Layout", "Registry"]
