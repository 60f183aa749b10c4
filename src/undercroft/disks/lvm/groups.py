"""Volume groups from physical volumes: which belong together, which metadata counts, which devices come out.

Guarantees: the newest sound metadata of a group counts, wherever it lies. A physical volume that is given
twice, two groups of one name, two texts of one sequence number and a volume that its group no longer lists
are refused with the reason. What lies on the volumes that are there is read although others are missing,
which is a problem that names them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from undercroft.disks.lvm.build import Builder, hyphenated
from undercroft.disks.lvm.label import read_label, read_text
from undercroft.disks.lvm.metadata import LogicalVolume, VolumeGroup, parse_group
from undercroft.disks.source import BlockSource
from undercroft.disks.stack import Assembly, Device, Member, Request
from undercroft.errors import InputError

MAX_SHOWN = 8
NO_DEVICE = frozenset({"thin-pool", "cache-pool", "vdo-pool", "snapshot"})
"""Kinds of visible volumes that hold others and nothing that could be mounted."""


@dataclass(slots=True)
class _Found:
    """A physical volume, the groups that its own areas describe, and what was wrong with these."""

    member: Member
    uuid: str
    is_used: bool = False
    groups: list[VolumeGroup] = field(default_factory=list)
    flaws: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Gathered:
    """All physical volumes by UUID, and the newest description of each group by its UUID."""

    volumes: dict[str, _Found] = field(default_factory=dict)
    groups: dict[str, VolumeGroup] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


def assemble(members: Sequence[Member], request: Request) -> Assembly:
    """Return the logical volumes of the groups of `members`; incomplete groups wait until `request.last`."""
    done = Assembly()
    gathered = _gather(members, done)
    names = [group.name for group in gathered.groups.values()]
    for uuid, group in gathered.groups.items():
        present = {
            name: gathered.volumes[physical.uuid]
            for name, physical in group.physical.items()
            if physical.uuid in gathered.volumes
        }
        reason = gathered.refused.get(uuid, "")
        if names.count(group.name) > 1:
            reason = f"lvm: two volume groups are called {group.name}; give the disks of one of them"
        if reason:
            done.refused.update((found.member, reason) for found in present.values())
        elif len(present) == len(group.physical) or request.last:
            _make(group, present, done)
            _refuse_strays(group, gathered, done)
    if request.last:
        _settle_rest(gathered, done)
    return done


def _gather(members: Sequence[Member], done: Assembly) -> _Gathered:
    gathered = _Gathered()
    twice: dict[str, str] = {}
    parsed: dict[bytes, VolumeGroup] = {}
    for member in members:
        try:
            label = read_label(member.source)
        except InputError as error:
            done.refused[member] = str(error)
            continue
        if label.uuid in gathered.volumes or label.uuid in twice:
            first = gathered.volumes.pop(label.uuid, None)
            names = twice.get(label.uuid) or (first.member.name if first else "")
            twice[label.uuid] = f"{names}, {member.name}"
            for each in (first.member if first else None, member):
                if each:
                    done.refused[each] = _twice(label.uuid, twice[label.uuid])
            continue
        found = _Found(member, label.uuid, label.is_used)
        gathered.volumes[label.uuid] = found
        for area in label.areas:
            try:
                text = read_text(member.source, area)
                if text and text not in parsed:
                    parsed[text] = parse_group(text)
                if text:
                    found.groups.append(parsed[text])
            except InputError as error:
                found.flaws.append(str(error))
    for found in gathered.volumes.values():
        for group in found.groups:
            _note_group(gathered, group)
    return gathered


def _twice(uuid: str, names: str) -> str:
    return f"lvm: {names} are one physical volume ({hyphenated(uuid)}) given twice; give only one of them"


def _note_group(gathered: _Gathered, group: VolumeGroup) -> None:
    known = gathered.groups.get(group.uuid)
    if known is None or known.seqno < group.seqno:
        gathered.groups[group.uuid] = group
        gathered.refused.pop(group.uuid, None)
    elif known.seqno == group.seqno and known is not group and known != group:
        gathered.refused[group.uuid] = (
            f"lvm group {group.name}: its volumes hold two different descriptions of number {group.seqno}"
        )


def _make(group: VolumeGroup, present: dict[str, _Found], done: Assembly) -> None:
    for name, found in present.items():
        if group.physical[name].missing:
            done.refused[found.member] = (
                f"lvm group {group.name}: it goes on without this volume, which is stale"
            )
        else:
            done.parts[found.member] = f"volume group {group.name}"
            done.notes += [f"{found.member.name}: {flaw}; another copy was read" for flaw in found.flaws]
    usable = {name: found.member for name, found in present.items() if not group.physical[name].missing}
    builder = Builder(group, usable)
    failed: list[str] = []
    for device in _devices(group, builder, usable):
        done.devices.append(device)
        if device.source is None:
            failed.append(device.name)
    for name, problem in builder.problems.items():
        if name in group.logical and "VISIBLE" in group.logical[name].status:
            done.problems.append(f"{group.name}/{name}: {problem}")
    missing = [builder.describe(name) for name in group.physical if name not in usable]
    if missing:
        lost = f"; unread because of it: {_listed(failed)}" if failed else "; all its volumes could be read"
        done.problems.append(
            f"volume group {group.name}: {_listed(missing)} is not among the given disks{lost};"
            " give its disk too (-a DISK)"
        )


def _refuse_strays(group: VolumeGroup, gathered: _Gathered, done: Assembly) -> None:
    """Refuse volumes whose own text is of this group and whose group's newest text does not list them."""
    listed = {physical.uuid for physical in group.physical.values()}
    for found in gathered.volumes.values():
        if found.uuid not in listed and any(own.uuid == group.uuid for own in found.groups):
            done.refused[found.member] = (
                f"lvm: the volume group {group.name} no longer lists this physical volume"
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return ", ".join(names[:MAX_SHOWN]) + more


def _devices(group: VolumeGroup, builder: Builder, usable: dict[str, Member]) -> Iterator[Device]:
    """Yield a device for each volume that the guest's kernel would show."""
    snapshots = {
        store: volume.segments[0].text("origin")
        for volume in group.logical.values()
        if volume.kind == "snapshot" and (store := volume.segments[0].text("cow_store"))
    }
    for name, volume in group.logical.items():
        if name in snapshots:
            yield _snapshot(group, builder, usable, volume, snapshots[name])
        elif "VISIBLE" in volume.status and volume.kind not in NO_DEVICE:
            size_bytes = volume.extents * group.extent_bytes
            reason = ""
            source: BlockSource | None = None
            try:
                source = builder.volume(name)
            except InputError as error:
                reason = str(error)
            rank = int(volume.kind == "thin" and bool(volume.segments[0].text("origin")))
            rank = max(rank, int("ACTIVATION_SKIP" in volume.flags))
            members = _members(builder, name, usable)
            yield _device(group, volume, members, size_bytes, source, reason, rank)


def _snapshot(
    group: VolumeGroup, builder: Builder, usable: dict[str, Member], volume: LogicalVolume, origin: str
) -> Device:
    reason = ""
    source: BlockSource | None = None
    size_bytes = volume.extents * group.extent_bytes
    try:
        source = builder.snapshot(volume.name, origin)
        size_bytes = source.size_bytes
    except InputError as error:
        reason = str(error)
    members = _members(builder, f"snapshot {volume.name}", usable)
    return _device(group, volume, members, size_bytes, source, reason, 1)


def _members(builder: Builder, name: str, usable: dict[str, Member]) -> tuple[Member, ...]:
    used = builder.used.get(name, set())
    return tuple(member for each, member in usable.items() if each in used) or tuple(usable.values())[:1]


def _device(
    group: VolumeGroup,
    volume: LogicalVolume,
    members: tuple[Member, ...],
    size_bytes: int,
    source: BlockSource | None,
    reason: str,
    rank: int,
) -> Device:
    mapped = f"{group.name.replace('-', '--')}-{volume.name.replace('-', '--')}"
    paths = (
        f"/dev/{group.name}/{volume.name}",
        f"/dev/mapper/{mapped}",
        f"/dev/disk/by-id/dm-name-{mapped}",
        f"/dev/disk/by-id/dm-uuid-LVM-{group.uuid}{volume.uuid}",
    )
    note = "the guest does not activate it by itself" if "ACTIVATION_SKIP" in volume.flags else ""
    name = f"{group.name}/{volume.name}"
    return Device(name, paths, members, size_bytes, source, reason=reason, note=note, rank=rank)


def _settle_rest(gathered: _Gathered, done: Assembly) -> None:
    """Say what became of physical volumes that no group's newest metadata lists."""
    for found in gathered.volumes.values():
        if found.member in done.parts or found.member in done.refused:
            continue
        if found.flaws:
            done.refused[found.member] = found.flaws[0]
        elif found.is_used:
            done.refused[found.member] = (
                "lvm: a volume group uses it, whose description lies on other disks; give them too (-a DISK)"
            )
        else:
            done.parts[found.member] = "no volume group"
