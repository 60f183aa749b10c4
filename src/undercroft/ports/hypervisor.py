"""The hypervisor: which disks a machine has, and how to read a running one at one point in time.

Paths, formats and chains here are the hypervisor's own word (DESIGN, decision 2): they may be opened.
What an image's header names may not.
"""

import socket
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from undercroft.model.domain import ChainEntry, DomainDisk, DomainSnapshot


@dataclass(frozen=True, slots=True)
class MachineDisks:
    """One machine and its disks in the order of its definition.

    `running` is True from start to stop, pauses included: a process may write the disks. `images` are
    those that it wrote to when its snapshots were taken, and `problem` says which snapshot could not be read.
    """

    name: str
    uuid: str
    running: bool
    disks: tuple[DomainDisk, ...]
    snapshots: tuple[DomainSnapshot, ...] = ()
    images: tuple[ChainEntry, ...] = ()
    problem: str = ""


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
