"""What the hook is told and what it notes, as values."""

from dataclasses import dataclass
from datetime import datetime

from undercroft.model.fleet import HeldTap
from undercroft.model.verdict import Action


@dataclass(frozen=True, slots=True)
class HookSettings:
    """What the hook has to know.

    Attributes:
        state: the agent's folder of state.
        socket: where the agent answers.
        timeout_s: how long `prepare` waits for the answer.
        away: what a start gets while the agent is away and none of its last decisions counts.
        break_glass: names, patterns of names, or UUIDs of machines that always start then.
        spool_limit: events that may wait; starts are refused beyond it.
        label: a packet filter is in force, so that taps need its labels before their machine runs.
    """

    state: str
    socket: str
    timeout_s: float = 5.0
    away: Action = Action.REFUSE
    break_glass: tuple[str, ...] = ()
    spool_limit: int = 10_000
    label: bool = False


@dataclass(frozen=True, slots=True)
class DecidedImage:
    """One image that a decision rests on, by path, device and inode as stat(2) tells them."""

    path: str
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class LastDecision:
    """The agent's last answer for a machine; what the hook goes by while the agent is away.

    Attributes:
        machine: its UUID.
        name: its name.
        action: what a start gets.
        hold: its taps stay closed until the agent has seen how it began.
        reason: one sentence.
        until: past this it counts for nothing.
        images: the top images of all its disks, and backing images. It counts while each is the same file
            and the machine has no other disk.
        leaves_open: what cannot be held stays open beside what is, which the policy allows.
    """

    machine: str
    name: str
    action: Action
    hold: bool
    reason: str
    until: datetime
    images: tuple[DecidedImage, ...]
    leaves_open: bool = False


@dataclass(frozen=True, slots=True)
class RunNote:
    """What the hook notes of a machine at `prepare` and `start`, until its release.

    `closed`: its network was to be closed; `taps` are those that the hook has closed. `images`: the files of
    its disks when it was judged. `label`: its taps were to be labelled before it ran; those that could not be
    are closed. `leaves_open`: interfaces that cannot be held stay open, which the policy allows.
    """

    machine: str
    name: str
    eid: str
    action: Action
    hold: bool
    closed: bool
    reason: str
    taps: tuple[HeldTap, ...]
    images: tuple[DecidedImage, ...] = ()
    label: bool = False
    leaves_open: bool = False


@dataclass(frozen=True, slots=True)
class Installed:
    """What `install_hook` did. `needs_reload`: libvirt looks for the folder of hooks only at its start."""

    changed: bool
    needs_reload: bool
