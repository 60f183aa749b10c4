"""md arrays from their members: which of them are up to date, and what they hold together.

Guarantees: a member that fell behind, was failed or is still being filled is not read; one that is given
twice is refused with the reason; halves of a mirror that went on apart are a problem. An array that lacks a
member is read where its redundancy allows it, which is a problem that names it: the missing one may be newer.
What an array's superblocks say is untrusted.
Layouts follow Linux's drivers/md (raid0.c, raid5.c, raid10.c, md-linear.c).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from undercroft.disks.md.superblock import BAD_BLOCKS, REPLACEMENT, Superblock, read_superblock
from undercroft.disks.md.zones import zoned
from undercroft.disks.source import BlockSource, SliceSource
from undercroft.disks.stack import Assembly, Device, Member, Request
from undercroft.disks.striping import ConcatSource, CopiesSource, ParitySource, Piece
from undercroft.errors import InputError, UnsupportedError

LINEAR = -1
MAX_EVENTS_BEHIND = 1
"""The kernel still starts a member that is one event behind: it was written just before the others."""
FAR_SETS = 0x60000


@dataclass(frozen=True, slots=True)
class _Part:
    """A member with its superblock, and its role as the newest member's table has it."""

    member: Member
    superblock: Superblock
    role: int = -1


def assemble(members: Sequence[Member], request: Request) -> Assembly:
    """Return the arrays of `members`; those that lack a member wait until `request.last`."""
    done = Assembly()
    arrays: dict[str, list[_Part]] = {}
    for member in members:
        try:
            superblock = read_superblock(member.source)
            arrays.setdefault(superblock.array, []).append(_Part(member, superblock))
        except InputError as error:
            done.refused[member] = str(error)
    for parts in arrays.values():
        _assemble_array(parts, request, done)
    return done


def _assemble_array(parts: list[_Part], request: Request, done: Assembly) -> None:
    newest_part = max(parts, key=lambda part: part.superblock.events)
    newest = newest_part.superblock
    refused: dict[Member, str] = {}
    by_role: dict[int, _Part] = {}
    for part in parts:
        try:
            role = _role(part.superblock, newest)
        except InputError as error:
            refused[part.member] = f"{error} (of the array {_name(newest)})"
            continue
        if role in by_role:
            names = f"{by_role[role].member.name}, {part.member.name}"
            reason = f"md: {names} are the same member of {_name(newest)}, given twice; give only one of them"
            done.refused.update({each.member: reason for each in parts})
            return
        by_role[role] = part
    if len(by_role) < newest.members and not request.last:
        return
    done.refused.update(refused)
    if not by_role:
        return
    done.parts.update((part.member, f"the array {_name(newest)}") for part in by_role.values())
    device, problem = _device(newest, by_role)
    done.devices.append(device)
    apart = [part.member.name for part in parts if _went_on_apart(part.superblock, newest)]
    if apart:
        problem = (
            f"{_name(newest)}: {newest_part.member.name} and {', '.join(apart[:8])} each say that the other"
            " failed: they went on apart, and nothing tells which of them the guest uses;"
            f" {newest_part.member.name} was read"
        )
    if problem:
        done.problems.append(problem)


def _went_on_apart(superblock: Superblock, newest: Superblock) -> bool:
    """Whether a member as new as the newest one has failed that one and been failed by it.

    Both were written to since, each without the other; the guest starts from whichever comes first.
    """
    if superblock.events + MAX_EVENTS_BEHIND < newest.events or superblock.geometry != newest.geometry:
        return False
    return not _is_active(newest, superblock) and not _is_active(superblock, newest)


def _is_active(table: Superblock, member: Superblock) -> bool:
    return member.number < len(table.roles) and table.roles[member.number] < table.members


def _role(superblock: Superblock, newest: Superblock) -> int:
    """Return the role of a member that may be read. Raises InputError with the reason why it may not."""
    if superblock.geometry != newest.geometry:
        raise InputError("md: this member describes another array than the newest one does")
    if superblock.events + MAX_EVENTS_BEHIND < newest.events:
        raise InputError(
            f"md: this member is stale: it was last written at event {superblock.events}, others at"
            f" {newest.events}"
        )
    role = newest.roles[superblock.number] if superblock.number < len(newest.roles) else newest.members
    if role >= newest.members:
        raise InputError("md: this member is a spare, was failed or removed")
    if not superblock.recovered or superblock.features & REPLACEMENT:
        raise InputError("md: this member was still being filled")
    return role


def _device(newest: Superblock, by_role: Mapping[int, _Part]) -> tuple[Device, str]:
    """Return the array's device, and a problem where what is read of it is in doubt."""
    name = _name(newest)
    missing = [role for role in range(newest.members) if role not in by_role]
    source: BlockSource | None = None
    reason = note = problem = ""
    try:
        data = {role: _data(part) for role, part in by_role.items()}
        source = _source(newest, data, f"md {name}")
    except InputError as error:
        reason = str(error)
    if missing:
        active = sorted(set(missing) & set(newest.roles))
        lacking = f"{len(missing)} of its {newest.members} members"
        if active or source is None:
            names = ", ".join(f"number {role}" for role in (active or missing)[:8])
            problem = f"{name}: {lacking} ({names}) were not given or not usable"
            problem += ", and may be newer; give its disk too (-a DISK)" if source else f": {reason}"
        note = f"degraded: {lacking} are missing"
    marred = [part.member.name for part in by_role.values() if part.superblock.features & BAD_BLOCKS]
    if marred and source is not None:
        problem = problem or f"{name}: {', '.join(marred[:8])} keeps a list of bad blocks, which was not read"
    members = tuple(by_role[role].member for role in sorted(by_role))
    size_bytes = source.size_bytes if source else 0
    return Device(name, _paths(newest), members, size_bytes, source, reason=reason, note=note), problem


def _data(part: _Part) -> BlockSource:
    superblock = part.superblock
    return SliceSource(
        part.member.source, superblock.start_bytes, superblock.size_bytes, f"md {part.member.name}"
    )


def _source(newest: Superblock, data: Mapping[int, BlockSource], name: str) -> BlockSource:
    """Return what the members hold together.

    Raises:
        InputError: too many are missing, or the geometry is malformed.
        UnsupportedError: a level or layout that is not read.
    """
    parts = [data.get(role) for role in range(newest.members)]
    match newest.level:
        case 1:
            return _mirror(newest, parts, name)
        case 0:
            return zoned(_all(parts, name), newest.chunk_bytes, newest.layout, name)
        case -1:
            return _linear(newest, _all(parts, name), name)
        case 4 | 5 | 6:
            return _parity(newest, parts, name)
        case 10:
            return _copies(newest, parts, name)
    raise UnsupportedError(f"{name}: RAID level {newest.level} is not supported yet")


def _all(parts: Sequence[BlockSource | None], name: str) -> list[BlockSource]:
    present = [part for part in parts if part is not None]
    if len(present) < len(parts):
        raise InputError(f"{name}: {len(present)} of {len(parts)} members are not enough for its data")
    return present


def _mirror(newest: Superblock, parts: Sequence[BlockSource | None], name: str) -> BlockSource:
    """The first member is the one that the kernel copies from after a crash."""
    source = next(part for part in parts if part is not None)
    if newest.part_bytes > source.size_bytes:
        raise InputError(f"{name}: {newest.part_bytes} bytes, and its member holds {source.size_bytes}")
    return SliceSource(source, 0, newest.part_bytes, name)


def _linear(newest: Superblock, parts: Sequence[BlockSource], name: str) -> BlockSource:
    unit = newest.chunk_bytes or 1
    pieces = [Piece(part.size_bytes // unit * unit, part, 0) for part in parts]
    return ConcatSource([piece for piece in pieces if piece.length], name)


def _parity(newest: Superblock, parts: Sequence[BlockSource | None], name: str) -> BlockSource:
    if None in parts and not newest.synced:
        raise InputError(f"{name}: a member is missing, and its parity was not in sync with its data")
    parities = 2 if newest.level == 6 else 1
    layout = newest.layout
    if newest.level == 4:
        layout = 5  # the parity's member is the last one
    chunk = newest.chunk_bytes
    if not chunk:
        raise InputError(f"{name}: chunks of 0 bytes")
    size_bytes = newest.part_bytes // chunk * chunk * (newest.members - parities)
    source = ParitySource(parts, chunk, layout, size_bytes, name, parities)
    if source.size_bytes < size_bytes:
        raise InputError(f"{name}: {size_bytes} bytes, and its members hold {source.size_bytes}")
    return source


def _copies(newest: Superblock, parts: Sequence[BlockSource | None], name: str) -> BlockSource:
    near, far = newest.layout & 0xFF, newest.layout >> 8 & 0xFF
    if newest.layout & FAR_SETS or newest.layout >> 19:
        raise UnsupportedError(f"{name}: layout {newest.layout:#x} of RAID 10 is not supported yet")
    if not newest.chunk_bytes or any(part and part.size_bytes < newest.part_bytes for part in parts):
        raise InputError(f"{name}: chunks of 0 bytes, or members shorter than the array says")
    offset = bool(newest.layout >> 16 & 1)
    return CopiesSource(parts, newest.chunk_bytes, near, far, newest.part_bytes, name, offset=offset)


def _name(superblock: Superblock) -> str:
    """Return how reports show an array: "md0" where it is numbered, "md/NAME" else."""
    if superblock.minor >= 0:
        return f"md{superblock.minor}"
    own = superblock.name.rpartition(":")[2]
    if own.isascii() and own.isdigit():
        return f"md{int(own)}"
    return f"md/{own or superblock.array}"


def _paths(superblock: Superblock) -> tuple[str, ...]:
    """Return what mdadm and udev call it; no superblock tells the number of /dev/md127."""
    packed = superblock.array.replace("-", "")
    uuid = ":".join(packed[start : start + 8] for start in range(0, 32, 8))
    paths = [f"/dev/disk/by-id/md-uuid-{uuid}"]
    if superblock.minor >= 0:
        return (f"/dev/md{superblock.minor}", f"/dev/md/{superblock.minor}", *paths)
    own = superblock.name.rpartition(":")[2]
    if own:
        paths += [
            f"/dev/md/{own}",
            f"/dev/md/{superblock.name}",
            f"/dev/disk/by-id/md-name-{superblock.name}",
        ]
    if own.isascii() and own.isdigit():
        paths.insert(0, f"/dev/md{int(own)}")
    return tuple(dict.fromkeys(paths))
