"""What a use case asks of the reader: which descriptors make up which disk of a machine.

A descriptor is given by its index in the list that travels with the job.
"""

from dataclasses import dataclass
from enum import StrEnum

from undercroft.model.credentials import Credentials
from undercroft.model.disk import DiskFormat
from undercroft.model.execution import Fingerprint
from undercroft.model.inventory import Inventory


class Transport(StrEnum):
    """How the bytes behind a descriptor are read."""

    FILE = "file"
    NBD = "nbd"


@dataclass(frozen=True, slots=True)
class ExtentInput:
    """One more file that a layer's disk lies in; `name` is what error messages call it."""

    name: str
    descriptor: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class LayerInput:
    """One file of a chain, or one NBD export (`size_bytes` is then 0 and `export` names it).

    `name` is what error messages call it; `zstd` says that its clusters may be compressed with zstd. An image
    inside an archive begins at `start_bytes` of the file and is `size_bytes` long. `extents` are in the
    order of `ImageInfo.extents`.
    """

    name: str
    descriptor: int
    size_bytes: int
    format: DiskFormat | None
    transport: Transport = Transport.FILE
    export: str = ""
    zstd: bool = False
    start_bytes: int = 0
    extents: tuple[ExtentInput, ...] = ()


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
class GuestSnapshot:
    """A snapshot that a guest took of its root: the volume, the subvolume's id and path, and when."""

    volume: str
    number: int
    path: str
    created_at_s: int


@dataclass(frozen=True, slots=True)
class SubvolumeInput:
    """The subvolume that is to be the root, in place of the one that starts."""

    volume: str
    number: int


@dataclass(frozen=True, slots=True)
class KeyInput:
    """One key for encrypted volumes: where its bytes lie, never the bytes themselves.

    Attributes:
        volume: for which volume: its name, UUID or label, "*" for any.
        descriptor: the file that holds it; `offset` and `size_bytes` say where in it.
        is_volume_key: whether it is a volume's own key, else a passphrase or the content of a key file.
    """

    volume: str
    descriptor: int
    offset: int
    size_bytes: int
    is_volume_key: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no key opened an encrypted volume, which `volume` names as the machine does ("vda2")."""

    volume: str
    reason: str


@dataclass(frozen=True, slots=True)
class KeysInput:
    """All keys of a job, and what an earlier job said of the volumes that none of them opens."""

    keys: tuple[KeyInput, ...] = ()
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class VolumeKey:
    """An encrypted volume's own key in hexadecimal digits; its `repr` does not show it."""

    volume: str
    digits: str


@dataclass(frozen=True, slots=True)
class Unlocked:
    """What became of a machine's encrypted volumes for which there were keys."""

    opened: tuple[VolumeKey, ...]
    refused: tuple[Refusal, ...]


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


@dataclass(frozen=True, slots=True)
class ProvenReads:
    """A `ReadSet` as it travels: disk, offset and length of each read, one after the other."""

    numbers: tuple[int, ...]
    sizes: tuple[int, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class ProvenInventory:
    """An inventory with what it rests on.

    `reads` is None where it cannot be proven by reading the same bytes again; `fingerprint` is None where
    no disk could be read.
    """

    inventory: Inventory
    reads: ProvenReads | None
    fingerprint: Fingerprint | None


@dataclass(frozen=True, slots=True)
class ProvenCredentials:
    """Credentials with what they rest on, as `ProvenInventory`."""

    credentials: Credentials
    reads: ProvenReads | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of reading recorded ranges again.

    `digests` has one for each set that was tried, in order, "" where it could not be read; the first set
    whose digest is the expected one ends the trial.
    """

    digests: tuple[str, ...]
    fingerprint: Fingerprint | None
