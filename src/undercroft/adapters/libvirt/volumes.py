"""Images of stopped machines in libvirt's storage pools: where a volume lies, what backs an image.

A stopped domain's XML rarely tells its backing chain; a storage pool does, from the headers that it read at
its last refresh. Only a disk that the domain's XML calls qcow2 is asked about: its header is written by the
host. What a pool says of a raw disk comes from bytes that the guest may have written, and is not asked for.

**A pool probes formats**: where a header names a backing image without its format, libvirt 9.0's pool calls a
raw image that begins with qcow2's magic qcow2, and goes on to whatever that names. So paths are taken from
the pool and formats are not: a reader takes each from the header of the image above, or gives up.
"""

from undercroft.adapters.libvirt import domain_xml
from undercroft.adapters.libvirt.bindings import Connection, Libvirt, message
from undercroft.errors import InputError
from undercroft.ports.hypervisor import ChainEntry


def volume_path(libvirt: Libvirt, connection: Connection, volume: domain_xml.VolumeName) -> str:
    """Return the path of a storage volume. Raises InputError, with libvirt's words, when it has none."""
    try:
        found = connection.storagePoolLookupByName(volume.pool).storageVolLookupByName(volume.volume)
        return found.path()
    except libvirt.libvirtError as error:
        raise InputError(f"storage volume {volume.pool}/{volume.volume}: {message(error)}") from error


def backing_chain(libvirt: Libvirt, connection: Connection, top_path: str) -> tuple[ChainEntry, ...] | None:
    """Return the backing images below a qcow2 image, nearest first, each without a format.

    Args:
        libvirt: the loaded binding.
        connection: a read-only connection is enough.
        top_path: an image whose format the domain's XML gives as qcow2.

    Returns:
        None when some image of the chain lies in no active pool, so that its end is not known.

    Raises:
        InputError: the chain loops or passes `domain_xml.MAX_CHAIN`, or a volume's XML is malformed.
    """
    chain: list[ChainEntry] = []
    path, probed_format = top_path, "qcow2"
    while probed_format != "raw":
        try:
            untrusted_xml = connection.storageVolLookupByPath(path).XMLDesc()
        except libvirt.libvirtError:
            return None
        backing = domain_xml.parse_volume_backing(untrusted_xml)
        if backing is None:
            break
        path, probed_format = backing.path, backing.format
        if len(chain) == domain_xml.MAX_CHAIN or path in {top_path, *(entry.path for entry in chain)}:
            raise InputError(f"backing chain of {top_path}: it loops at, or is too long before, {path}")
        chain.append(ChainEntry(path, ""))
    return tuple(chain)
