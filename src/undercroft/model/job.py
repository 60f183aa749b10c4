"""What a use case asks of the reader: which descriptors make up which disk of a machine.

A descriptor is given by its index in the list that travels with the job.
"""

from dataclasses import dataclass
from enum import StrEnum

from undercroft.model.disk import DiskFormat


class Transport(StrEnum):
    """How the bytes behind a descriptor are read."""

    FILE = "file"
    NBD = "nbd"


@dataclass(frozen=True, slots=True)
class LayerInput:
    """One file of a chain, or one NBD export (`size_bytes` is then 0 and `export` names it).

    `name` is what error messages call it; `zstd` says that its clusters may be compressed with zstd.
    """

    name: str
    descriptor: int
    size_bytes: int
    format: DiskFormat | None
    transport: Transport = Transport.FILE
    export: str = ""
    zstd: bool = False


@dataclass(frozen=True, slots=True)
class DiskInput:
    """One disk in one state.

    Attributes:
        name: the disk's name in the machine ("vda").
        layers: top first; empty when the disk is unread.
        data_file: the external data file of the top layer, None for none.
        snapshot: ID of the internal snapshot to look at, None for the current state.
        unread: why the disk can't be read in this state, "" when it can.
    """

    name: str
    layers: tuple[LayerInput, ...]
    data_file: LayerInput | None = None
    snapshot: str | None = None
    unread: str = ""


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One line of a directory listing. Names are surrogate-escaped; `target` is a symlink's."""

    name: str
    kind: str
    mode: int
    size_bytes: int
    uid: int
    gid: int
    modified_at_s: int
    target: str = ""
