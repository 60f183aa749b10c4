"""What is on record of machines' channels: which executions have fresh randomness, what the guest last said.

Helper, kernel and abilities are the guest's own words: untrusted text of at most 400 characters each.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

NAME = "org.undercroft.channel.0"
"""Of the virtio-serial port."""


@dataclass(frozen=True, slots=True)
class Reseed:
    """That a guest has confirmed the seed of one execution; of several confirmations the last one.

    Attributes:
        eid: the execution.
        machine: UUID.
        generation: of the seed; grows with each seed of a machine.
        credited: its kernel took the seed and drew a new key from it. Without it nothing is fresh.
        drained: bytes of /dev/hwrng that were read away.
        hooks: programs that it ran.
        failed: how many of these failed.
        milliseconds: from the moment in which the service had the channel to the confirmation.
        at: when the agent heard of it.
    """

    eid: str
    machine: str
    generation: int
    credited: bool
    drained: int
    hooks: int
    failed: int
    milliseconds: int
    at: datetime


class Heard(StrEnum):
    """What was heard of a machine's channel last.

    ATTACHED: the service has it, and no guest has answered yet. READY: its helper has answered. SILENT: it
    answers no more. GONE: QEMU has closed the line. REWOUND: it proved that it was put back. UNREACHABLE: the
    agent could not connect to it.
    """

    ATTACHED = "attached"
    READY = "ready"
    SILENT = "silent"
    GONE = "gone"
    REWOUND = "rewound"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class GuestChannel:
    """What is known of a running machine's channel.

    Attributes:
        machine: UUID.
        host: where it runs.
        eid: the execution that it was handed over for.
        heard: what was heard last.
        at: when that changed.
        helper: what the guest calls its helper, "" where it has not said.
        kernel: what it calls its kernel.
        abilities: what it says to be able to, sorted as it said.
        problem: why it is as it is, "" where nothing is wrong.
    """

    machine: str
    host: str
    eid: str
    heard: Heard
    at: datetime
    helper: str = ""
    kernel: str = ""
    abilities: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Quiesced:
    """That all but a guest's helper stood still when a snapshot was taken: nothing in it draws stale bytes.

    Attributes:
        key: of the snapshot's `RecordedState`.
        machine: UUID.
        eid: the execution in which it was taken.
        processes: how many stood still.
        at: when it was taken.
    """

    key: str
    machine: str
    eid: str
    processes: int
    at: datetime
