"""Which legs of a RAID in LVM hold its data: what dm-raid's superblocks say of each.

Guarantees: a leg that the kernel has given up, has fallen behind or is still filling is not used. A volume
that was made and never started has superblocks of zeros: its legs are all as good as the first. Follows
Linux's drivers/md/dm-raid.c (struct dm_raid_superblock, which has no checksum).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

from undercroft.disks.source import BlockSource
from undercroft.errors import InputError, UnsupportedError

_SUPERBLOCK = Struct("<IIIIQQQQ12xI32xQ")
"""magic, features, legs, this one's place, events, failed legs, how far this leg is filled, how far the array
is synced, flags, sectors before this leg's data."""
_MAGIC = 0x64526D44
_RESHAPING = 1
_DONE = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Leg:
    """One leg: its image and its superblock's volume, or the reason why it is not there."""

    image: BlockSource | None
    meta: BlockSource | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _State:
    events: int
    failed: int
    recovered: int
    resynced: int


def usable_legs(legs: Sequence[Leg], name: str) -> list[BlockSource | None]:
    """Return each leg's image in the order of the legs, None for those that must not be read.

    Raises:
        InputError: a superblock is in another leg's place.
        UnsupportedError: the array is being reshaped.
    """
    states = [_state(leg, position, len(legs), name) for position, leg in enumerate(legs)]
    known = [state for state in states if state]
    if not known:
        return [leg.image for leg in legs]
    freshest = max(known, key=lambda state: state.events)
    failed = 0
    for state in known:
        failed |= state.failed if state.events == freshest.events else 0
    images = [
        leg.image
        if state and state.events == freshest.events and not failed >> position & 1 and _is_whole(state)
        else None
        for position, (leg, state) in enumerate(zip(legs, states, strict=True))
    ]
    if freshest.resynced != _DONE and None in images and len(legs) > 2:
        raise InputError(f"{name}: a leg is missing, and its parity was not yet computed whole")
    return images


def _is_whole(state: _State) -> bool:
    return state.recovered == _DONE


def _state(leg: Leg, position: int, count: int, name: str) -> _State | None:
    if leg.meta is None:
        return None
    data = leg.meta.read(0, 512)
    fields = _SUPERBLOCK.unpack_from(data)
    magic, _, devices, place, events, failed, recovered, resynced, flags, start = fields
    if magic != _MAGIC:
        return None
    if devices != count or place != position:
        raise InputError(
            f"{name}: a leg's superblock says {place} of {devices}, and it is {position} of {count}"
        )
    if flags & _RESHAPING or start:
        raise UnsupportedError(f"{name}: it is or was reshaped, which is not supported")
    return _State(events, failed, recovered, resynced)
