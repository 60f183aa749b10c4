"""Where a partition is mounted by its type alone, as systemd-gpt-auto-generator(8) does.

Source: the Discoverable Partitions Specification.
"""

import uuid

from undercroft.disks.tree import GuestTree
from undercroft.disks.volumes import OpenVolume
from undercroft.errors import InputError, NotFoundError

MACHINE_ID_BYTES = 16

USR_TYPES = frozenset(
    {
        "8484680c-9521-48c6-9c11-b0720656f69e",  # x86-64
        "75250d76-8cc6-458e-bd66-bd47cc81a812",  # x86
        "b0e01050-ee5f-4390-949a-9101b17104e9",  # arm64
        "7d0359a3-02b3-4f0a-865c-654403e70625",  # arm
        "beaec34b-8442-439b-a40b-984381ed097d",  # riscv64
    }
)
VAR_TYPE = "4d21b016-b534-45c2-a9fb-5c16e091fd2d"
EXTENDED_BOOT_TYPE = "bc13c2ff-59e6-4262-a352-b275fd6f7172"


def point_by_type(volume: OpenVolume, tree: GuestTree) -> bytes:
    """Return where the type of its partition says that a volume is mounted, b"" for nowhere."""
    if volume.type_id in USR_TYPES:
        return b"/usr"
    if volume.type_id == EXTENDED_BOOT_TYPE:
        return b"/boot"
    if volume.type_id == VAR_TYPE and _is_own_var(volume, tree):
        return b"/var"
    return b""


def _is_own_var(volume: OpenVolume, tree: GuestTree) -> bool:
    """Whether the partition's UUID is the one that systemd derives from /etc/machine-id for /var.

    Source: Discoverable Partitions Specification, "Variable Data Partition": HMAC-SHA256 keyed with the
    machine id over the type's UUID, cut to 16 bytes and marked as a version 4 UUID.
    """
    import hashlib  # noqa: PLC0415 - few machines have such a partition
    import hmac  # noqa: PLC0415

    try:
        machine_id = bytes.fromhex(tree.read(b"/etc/machine-id", 64).decode("ascii").strip())
    except (InputError, NotFoundError, ValueError):
        return False
    if len(machine_id) != MACHINE_ID_BYTES:
        return False  # an image that was made to be cloned has an empty one, and mounts no /var by type
    digest = hmac.new(machine_id, uuid.UUID(VAR_TYPE).bytes, hashlib.sha256).digest()
    return volume.part_uuid == str(uuid.UUID(bytes=digest[:16], version=4))
