"""qcow2's LUKS encryption: the header of LUKS1 in the image, and its clusters decrypted.

Clusters are encrypted by sectors of 512 bytes whose numbers count from the start of the file that holds
them (docs/interop/qcow2.rst, "Full disk encryption header pointer"). The older method "aes" is refused: it
has nothing that would tell a wrong key from a right one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from undercroft.disks import luks
from undercroft.disks.keys import Keys
from undercroft.disks.qcow2.header import CURE, Header
from undercroft.disks.source import BlockSource, SliceSource
from undercroft.errors import InputError, UnsupportedError

if TYPE_CHECKING:
    from undercroft.disks.luks.sectors import SectorCipher

SECTOR_BYTES = 512
MAX_HEADER_BYTES = 64 << 20
"""LUKS1 with eight keyslots of 4,000 stripes of 64 bytes takes 2 MiB."""


class ClusterDecryption:
    """Reads decrypted data from the file that holds an image's clusters.

    Args:
        data: that file.
        cipher: with the image's key.
    """

    __slots__ = ("_cipher", "_data", "size_bytes")

    def __init__(self, data: BlockSource, cipher: "SectorCipher") -> None:
        self._data = data
        self._cipher = cipher
        self.size_bytes = data.size_bytes // SECTOR_BYTES * SECTOR_BYTES

    def read(self, offset: int, length: int) -> bytes:
        """Return `length` decrypted bytes at `offset` of the file. Raises InputError beyond its end."""
        start = offset // SECTOR_BYTES * SECTOR_BYTES
        end = -(-(offset + length) // SECTOR_BYTES) * SECTOR_BYTES
        data = self._cipher.decrypt(start // SECTOR_BYTES, self._data.read(start, end - start))
        return data[offset - start : offset - start + length]


def encryption_ident(source: BlockSource, header: Header, name: str) -> str:
    """Return the UUID of an encrypted image's LUKS header, by which a key may name it; "" for none."""
    try:
        return luks.read_header(_area(source, header, name)).uuid if header.encryption == "luks" else ""
    except InputError:
        return ""  # whoever opens it says why


def open_data(
    source: BlockSource, header: Header, data: BlockSource, names: Sequence[str], keys: Keys, name: str
) -> BlockSource:
    """Return what decrypts the clusters in `data`.

    Args:
        source: the image file, untrusted.
        header: of an encrypted image.
        data: the file that holds its clusters.
        names: of the disk in the machine, for choosing among the keys.
        keys: of the job.
        name: of the image, for messages.

    Raises:
        InputError: the encryption's header is malformed, or no key opens it.
        UnsupportedError: the method "aes", or there is no key for it.
    """
    if header.encryption != "luks":
        raise UnsupportedError(
            f"{name}: is encrypted by qcow2's old method {header.encryption!r}, which is not supported;"
            " convert it with `qemu-img convert`"
        )
    area = _area(source, header, name)
    try:
        inner = luks.read_header(area)
        key = luks.unlocked(area, inner, names, keys)
        return ClusterDecryption(data, luks.open_cipher(inner.segment.cipher, key))
    except UnsupportedError as error:
        raise UnsupportedError(f"{name}: {names[0]}: {error}") from error
    except InputError as error:
        raise InputError(f"{name}: {names[0]}: {error}") from error


def _area(source: BlockSource, header: Header, name: str) -> BlockSource:
    """Return where the encryption's own header lies. Raises InputError."""
    offset, length = header.encryption_header
    if not length or length > MAX_HEADER_BYTES or offset + length > source.size_bytes:
        raise InputError(
            f"{name}: its encryption header of {length} bytes at {offset} is out of range; {CURE}"
        )
    return SliceSource(source, offset, length, f"{name}: encryption header")
