"""Where a storage volume of one of libvirt's pools lies.

A pool also tells a backing chain, and is not asked for it: it read that from the image's own header at its
last refresh, so that whoever hands in an image would name any file of the host as the pool's word.
"""

from undercroft.adapters.libvirt import domain_xml
from undercroft.adapters.libvirt.bindings import Connection, Libvirt, message
from undercroft.errors import InputError


def volume_path(libvirt: Libvirt, connection: Connection, volume: domain_xml.VolumeName) -> str:
    """Return the path of a storage volume. Raises InputError, with libvirt's words, when it has none."""
    try:
        found = connection.storagePoolLookupByName(volume.pool).storageVolLookupByName(volume.volume)
        return found.path()
    except libvirt.libvirtError as error:
        raise InputError(f"storage volume {volume.pool}/{volume.volume}: {message(error)}") from error
