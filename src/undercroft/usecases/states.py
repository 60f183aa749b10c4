"""The states of a machine: the current one, and one for each snapshot.

Internal snapshots are what its disks' images name; external ones are what libvirt names, or what other
hypervisors' differences show (`checkpoints`), and lie in the images below those that they put on top.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from undercroft.errors import InputError, NotFoundError
from undercroft.model.disk import Snapshot
from undercroft.model.job import GuestSnapshot, SubvolumeInput
from undercroft.model.report import CURRENT
from undercroft.usecases.target import ExternalSnapshot


@dataclass(frozen=True, slots=True)
class State:
    """One state.

    Attributes:
        name: "current" or the snapshot's name.
        ident: the snapshot's ID on the first disk that has it, "" for the current state.
        created_at_s: when it was taken, 0 for the current state.
        snapshots: disk name -> snapshot ID; a disk that is missing lacks the snapshot.
        subvolume: of a snapshot that the guest itself took of its root; it lies on the current disks.
        external: it lies in the images below those that it put on top.
        above: disk name -> how many images lie on top of those that hold an external snapshot; a disk that is
            missing was left out of it, or does not lie on its image any more.
    """

    name: str
    ident: str
    created_at_s: int
    snapshots: Mapping[str, str]
    subvolume: SubvolumeInput | None = None
    external: bool = False
    above: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_current(self) -> bool:
        """True where the machine's disks are read as they are now."""
        return not self.snapshots and not self.external


def states_of(disks: Sequence[tuple[str, Sequence[Snapshot]]]) -> tuple[State, ...]:
    """Return the current state, then the snapshots in order of time.

    Snapshots of several disks belong together by name, as libvirt takes them; where a disk holds a name
    twice (qcow2 allows it), by name and ID.
    """
    twice = _names_held_twice(disks)
    grouped: dict[tuple[str, str], State] = {}
    for disk, snapshots in disks:
        for snapshot in snapshots:
            key = (snapshot.name, snapshot.ident if snapshot.name in twice else "")
            known = grouped.get(key)
            grouped[key] = State(
                snapshot.name,
                known.ident if known else snapshot.ident,
                known.created_at_s if known else snapshot.created_at_s,
                {**(known.snapshots if known else {}), disk: snapshot.ident},
            )
    taken = sorted(grouped.values(), key=lambda state: (state.created_at_s, state.ident))
    return (State(CURRENT, "", 0, {}), *taken)


def guest_state(snapshot: GuestSnapshot) -> State:
    """Return the state that a guest's own snapshot is, named after its subvolume ("subvolume @before")."""
    subvolume = SubvolumeInput(snapshot.volume, snapshot.number)
    return State(f"subvolume {snapshot.path}", str(snapshot.number), snapshot.created_at_s, {}, subvolume)


def external_states(
    snapshots: Sequence[ExternalSnapshot], chains: Sequence[tuple[str, Sequence[str]]]
) -> tuple[State, ...]:
    """Return external snapshots as states.

    Args:
        snapshots: each with the images that it put on top.
        chains: disk name and the paths of its images, top first.
    """
    return tuple(
        State(
            snapshot.name,
            "",
            snapshot.created_at_s,
            {},
            external=True,
            above={
                disk: paths.index(snapshot.overlays[disk]) + 1
                for disk, paths in chains
                if snapshot.overlays.get(disk) in paths[:-1]
            },
        )
        for snapshot in snapshots
    )


def in_order(current: Sequence[State], others: Sequence[State]) -> tuple[State, ...]:
    """Return all states: the current one first, then the snapshots in order of time."""
    taken = sorted((*current[1:], *others), key=lambda state: (state.created_at_s, state.ident))
    return (*current[:1], *taken)


def _names_held_twice(disks: Sequence[tuple[str, Sequence[Snapshot]]]) -> set[str]:
    twice: set[str] = set()
    for _, snapshots in disks:
        counts = Counter(snapshot.name for snapshot in snapshots)
        twice.update(name for name, count in counts.items() if count > 1)
    return twice


def select_state(states: Sequence[State], wanted: str, machine: str) -> State:
    """Return the state called `wanted`: "current", a snapshot's name, or its ID.

    A name that is the ID of another snapshot selects nothing: QEMU, which reverts by it, looks for IDs first
    (block/qcow2-snapshot.c, `find_snapshot_by_id_or_name`), so that one state would be judged and the other
    one run.

    Raises:
        NotFoundError: there is none; the message lists those that exist.
        InputError: several snapshots bear the name or, on different disks, the ID; the message lists them.
    """
    if wanted == CURRENT:
        return states[0]
    snapshots = states[1:]
    named = [state for state in snapshots if state.name == wanted]
    if len(named) > 1:
        idents = ", ".join(state.ident for state in named)
        raise InputError(f"{machine}: {len(named)} snapshots are called {wanted!r}; use an ID: {idents}")
    of_that_ident = [
        state
        for state in snapshots
        if wanted in state.snapshots.values() or (state.subvolume and wanted == state.ident)
    ]
    others = [state for state in of_that_ident if state.name != wanted]
    if named and others:
        raise InputError(
            f"{machine}: {wanted!r} is the name of one snapshot and the ID of another, {others[0].name!r},"
            f" for which QEMU takes it; use the ID {named[0].ident} or the name {others[0].name!r}"
        )
    found = named or of_that_ident
    if len(found) > 1:
        names = ", ".join(repr(state.name) for state in found)
        raise InputError(f"{machine}: {len(found)} snapshots have the ID {wanted!r}; use a name: {names}")
    if not found:
        existing = ", ".join(f"{state.name!r} (ID {state.ident})" for state in snapshots[:20]) or "none"
        raise NotFoundError(f"{machine}: no snapshot {wanted!r}; it has: {existing}")
    return found[0]
