"""The hypervisor: which disks a machine has, and how to read a running one at one point in time.

Paths, formats and chains here are the hypervisor's own word (DESIGN, decision 2): they may be opened.
What an image's header names may not.
"""

import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class DiskKind(StrEnum):
    """Where a disk's bytes lie. A storage volume is resolved to its path and stays a `VOLUME`."""

    FILE = "file"
    BLOCK = "block"
    VOLUME = "volume"
    NETWORK = "network"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class ChainEntry:
    """One backing image.

    Attributes:
        path: absolute path on this host.
        format: "raw", "qcow2", ... as the hypervisor names it; "" where it does not say or only guesses.
            Then the format is what the header of the image above names, and where that names none the
            chain is unread: probing would believe bytes that a guest may have written.
        data_file: the external data file's path, "" for none.
    """

    path: str
    format: str
    data_file: str = ""


@dataclass(frozen=True, slots=True)
class DomainDisk:
    """One disk of a machine.

    Attributes:
        target: the guest's name for it ("vda"), unique in the machine.
        device: "disk", "lun", "cdrom" or "floppy"; only the first two hold a machine's own software.
        kind: where the bytes lie.
        path: the top image's absolute path on this host, "" for none.
        format: the top image's format; the hypervisor's word, never probed.
        chain: backing images below the top, nearest first; () for none; None when the hypervisor does not
            say, which happens to stopped machines whose images lie in no storage pool.
        data_file: the top image's external data file, "" for none or not said.
        readonly: the guest cannot write it.
        shareable: other machines may write it at the same time.
        encrypted: the hypervisor holds a key for it.
        problem: why the files cannot be read as named, "" when they can. A running machine's
            `PointInTime` may serve the disk all the same.
    """

    target: str
    device: str
    kind: DiskKind
    path: str
    format: str
    chain: tuple[ChainEntry, ...] | None = ()
    data_file: str = ""
    readonly: bool = False
    shareable: bool = False
    encrypted: bool = False
    problem: str = ""

    @property
    def removable(self) -> bool:
        """True for a CD-ROM or floppy drive, which a scan lists and skips."""
        return self.device in {"cdrom", "floppy"}


@dataclass(frozen=True, slots=True)
class MachineDisks:
    """One machine and its disks in the order of its definition.

    `running` is True from start to stop, pauses included: a process may write the disks.
    """

    name: str
    uuid: str
    running: bool
    disks: tuple[DomainDisk, ...]


class PointInTime(Protocol):
    """The disks of a running machine as they were at one moment, all at the same one.

    Valid inside the `with` block that gave it. What the guest had not flushed by then may be missing, as
    after a power cut: the filesystem's journal has to be replayed.

    Attributes:
        targets: the disks that it serves; each is an NBD export of that name.
        unavailable: target -> why it is not served.
    """

    targets: tuple[str, ...]
    unavailable: Mapping[str, str]

    def connect(self, target: str) -> socket.socket:
        """Return a connected socket on which an NBD server waits for its handshake; the caller closes it.

        The server is the machine's own hypervisor process, which its guest may have taken over: it is
        to be spoken to inside the sandbox only.

        Raises:
            NotFoundError: `target` is not served.
            OperationError: the connection failed, or the point in time is no more.
        """
        ...

    def check(self) -> None:
        """Raise OperationError when the point in time was given up; what was read so far is void."""
        ...


class Hypervisor(Protocol):
    """The hypervisor of this host."""

    def find(self, machine: str) -> MachineDisks:
        """Return the machine of that ID, UUID or name, tried in this order, as virsh does.

        Raises:
            NotFoundError: there is none; the message names similar ones.
            OperationError: the hypervisor cannot be asked.
            InputError: its description of the machine is malformed or over a limit.
        """
        ...

    def point_in_time(self, machine: MachineDisks) -> AbstractContextManager[PointInTime]:
        """Hold the disks of a running machine at the present moment while the `with` block runs.

        The machine goes on running and writing.

        Raises:
            OperationError: it is not running, another job holds it, there is no room to keep what it
                overwrites, or the hypervisor failed.
        """
        ...

    def close(self) -> None:
        """Give the connections back."""
        ...
