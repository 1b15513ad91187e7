"""Images in the format of the Open Container Initiative: a layout on disk, a folder in it, the push to a registry."""

from alva.oci.folder import read_folder, write_folder
from alva.oci.layout import Layout
from alva.oci.push import Registry

__all__ = ["Layout", "Registry", "read_folder", "write_folder"]
