"""The volumes of a machine's disks opened, and the devices of the sets that they make up, layer upon layer.

Guarantees: nothing is skipped: each partition, disk and device comes out as one `OpenVolume`, with a
filesystem or with the reason why there is none. Malformed content never raises. Sets are assembled until
none settles a member any more, and only then those that lack one: a member may come out of another set.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from undercroft.disks import partitions, stack
from undercroft.disks.detect import NOT_APPLICABLE, UNKNOWN, Content, detect, open_filesystem, raid_at_end
from undercroft.disks.keys import NO_KEYS, Keys
from undercroft.disks.partitions import Partition
from undercroft.disks.source import BlockSource, SliceSource
from undercroft.disks.stack import Assembly, Device, Member, Request
from undercroft.disks.volumes import DISC, DiskSet, Opener, OpenVolume, UnreadDisk
from undercroft.errors import InputError

DISC_MAGIC, DISC_MAGIC_OFFSET = b"CD001", 0x8001


def open_volumes(
    disks: Sequence[tuple[str, BlockSource | UnreadDisk]],
    opener: Opener | None = open_filesystem,
    keys: Keys | None = None,
) -> DiskSet:
    """Return every volume of `disks` (name, source). Malformed content becomes a volume's reason.

    Args:
        disks: in the machine's order.
        opener: opens a filesystem by its content; with None none is opened, by no set either.
        keys: for encrypted volumes.
    """
    opening = _Opening(opener, keys or NO_KEYS)
    for order, (name, disk) in enumerate(disks):
        if isinstance(disk, UnreadDisk):
            content = Content(disk.content)
            opening.add(OpenVolume(name, order, None, disk.size_bytes, content, reason=disk.reason))
        else:
            whole = OpenVolume(name, order, None, disk.size_bytes, Content(UNKNOWN))
            opening.look(whole, disk, 0)
    opening.assemble_all()
    return DiskSet(
        tuple(slot.volume for slot in opening.slots), tuple(opening.notes), tuple(opening.problems)
    )


@dataclass(slots=True, eq=False)
class _Slot:
    """A volume, its source, how deep it lies, and the set that it waits for as a member."""

    volume: OpenVolume
    source: BlockSource | None = None
    depth: int = 0
    waits: bool = False


@dataclass(slots=True)
class _Opening:
    """Volumes as they are found, sets as they become complete."""

    opener: Opener | None
    keys: Keys
    slots: list[_Slot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    full: bool = False

    def add(self, volume: OpenVolume, source: BlockSource | None = None, depth: int = 0) -> _Slot:
        """Append a volume; one over the limit is not kept, which is a problem."""
        slot = _Slot(volume, source, depth)
        if len(self.slots) < stack.MAX_DEVICES:
            self.slots.append(slot)
        elif not self.full:
            self.full = True
            self.problems.append(
                f"{volume.name}: the machine has more than {stack.MAX_DEVICES} volumes: the rest was not read"
            )
        return slot

    def look(self, whole: OpenVolume, source: BlockSource, depth: int) -> None:
        """Add the partitions of a disk or device, or the whole of it where it has none."""
        try:
            table = partitions.read_table(source)
            ended = _is_raid_beyond(source, table.partitions)
        except InputError as error:
            self.add(replace(whole, reason=f"its partition table could not be read: {error}"))
            return
        self.notes += [f"{whole.disk}: {note}" for note in table.notes]
        is_disc = bool(table.partitions) and not ended and self._look_at_disc(whole, source, depth)
        for part in () if ended else table.partitions:
            volume = replace(whole, partition=part, size_bytes=part.size_bytes, inherited_type="")
            if part.problem or not part.size_bytes:
                self.add(replace(volume, reason=part.problem or "it has 0 bytes"))
            elif is_disc and not part.start_bytes:
                self.add(replace(volume, applicable=False, reason=f"begins as the disc {whole.name} does"))
            else:
                inner = SliceSource(source, part.start_bytes, part.size_bytes, volume.name)
                self._look_inside(self.add(volume, inner, depth))
        if ended or not table.partitions:
            self._look_inside(self.add(whole, source, depth))

    def _look_at_disc(self, whole: OpenVolume, source: BlockSource, depth: int) -> bool:
        """Add the whole disk where it is a disc beside its partitions, as images for discs and sticks are.

        A guest sees both. A disc that cannot be opened is what an earlier use left behind, or its first
        partition says what is wrong with it.
        """
        end = DISC_MAGIC_OFFSET + len(DISC_MAGIC)
        try:
            # Most disks are none: they are asked for these few bytes and no more.
            if source.size_bytes < end or source.read(DISC_MAGIC_OFFSET, len(DISC_MAGIC)) != DISC_MAGIC:
                return False
            if detect(source).kind != DISC:
                return False
        except InputError:
            return False  # its partitions are there to be read
        slot = _Slot(whole, source, depth)
        self._look_inside(slot)
        if slot.volume.filesystem is None:
            self.notes.append(
                f"{whole.name}: begins as an ISO 9660 does that cannot be read: {slot.volume.reason}"
            )
            return False
        return self.add(slot.volume, source, depth) in self.slots

    def _look_inside(self, slot: _Slot) -> None:
        volume, source = slot.volume, slot.source
        if source is None or not volume.size_bytes:
            slot.volume = replace(volume, reason="it has 0 bytes")
            return
        try:
            slot.volume = volume = replace(volume, content=detect(source, volume.type_id))
        except InputError as error:
            slot.volume = replace(volume, reason=str(error))
            return
        if reason := NOT_APPLICABLE.get(volume.content.kind):
            slot.volume = replace(volume, applicable=False, reason=reason)
        elif volume.content.kind not in stack.by_kind():
            self._open(slot)
        elif slot.depth >= stack.MAX_DEPTH:
            slot.volume = replace(volume, reason=f"sets of volumes in sets, more than {stack.MAX_DEPTH} deep")
        else:
            slot.waits = True

    def _open(self, slot: _Slot) -> None:
        try:
            if slot.source is not None and self.opener is not None:
                filesystem = self.opener(slot.volume.content, slot.source)
                slot.volume = replace(slot.volume, filesystem=filesystem)
        except InputError as error:
            slot.volume = replace(slot.volume, reason=str(error))

    def assemble_all(self) -> None:
        """Assemble until no member changes its state; each turn settles one, so it ends."""
        last = False
        while (settled := self._turn(last)) or not last:
            last = not settled
        for slot in self.slots:
            if slot.waits:
                slot.volume = replace(slot.volume, reason=f"{slot.volume.kind}: no set took it")

    def _turn(self, last: bool) -> bool:
        """Ask each kind of set; in the last turn only until one settles something. True where one did."""
        settled = False
        request = Request(self.keys, last, opens=self.opener is not None)
        for each in stack.SETS:
            waiting = [slot for slot in self.slots if slot.waits and slot.volume.kind in each.kinds]
            members = {_member(slot): slot for slot in waiting}
            if not members:
                continue
            try:
                assembly = stack.assembler(each)(tuple(members), request)
            except InputError as error:
                assembly = Assembly(refused=dict.fromkeys(members, str(error)))
            settled = self._settle(assembly, members) or settled
            if settled and last:
                break
        return settled

    def _settle(self, assembly: Assembly, members: dict[Member, _Slot]) -> bool:
        self.problems += assembly.problems
        self.notes += assembly.notes
        for member, name in assembly.parts.items():
            slot = members[member]
            slot.waits = False
            slot.volume = replace(slot.volume, applicable=False, reason=f"part of {name}")
        for member, reason in assembly.refused.items():
            slot = members[member]
            slot.waits = False
            slot.volume = replace(slot.volume, reason=reason)
        for member in assembly.left:
            members[member].waits = False
            self._open(members[member])
        for device in assembly.devices:
            self._add_device(device, [members[member] for member in device.members])
        return any(not slot.waits for slot in members.values())

    def _add_device(self, device: Device, parents: Sequence[_Slot]) -> None:
        taken = {slot.volume.disk for slot in self.slots}
        types = {slot.volume.type_id for slot in parents}
        whole = OpenVolume(
            device.name,
            min((slot.volume.disk_order for slot in parents), default=0),
            None,
            device.size_bytes,
            device.content or Content(UNKNOWN),
            device.filesystem,
            reason=device.reason,
            device=device,
            members=tuple(slot.volume.name for slot in parents),
            inherited_type=types.pop() if len(types) == 1 else "",
        )
        depth = 1 + max((slot.depth for slot in parents), default=0)
        if device.name in taken:
            reason = "another set has a device of the same name"
            self.problems.append(f"{device.name}: {reason}")
            self.add(replace(whole, filesystem=None, reason=reason))
        elif device.filesystem or device.source is None:
            self.add(whole)
        else:
            self.look(whole, device.source, depth)


def _member(slot: _Slot) -> Member:
    if slot.source is None:
        raise ValueError(f"{slot.volume.name} waits for a set without a source")
    return Member(slot.volume.name, slot.volume.content, slot.source, slot.volume.part_uuid)


def _is_raid_beyond(source: BlockSource, parts: Sequence[Partition]) -> bool:
    """Whether a RAID superblock lies at a disk's end, in none of its partitions: the disk is a member.

    The table then belongs to the array that the disk mirrors, and begins where the disk does.
    """
    if not parts:
        return False
    try:
        found = raid_at_end(source)
    except InputError:
        return False  # its partitions are there to be read, and each says what of it is not
    return found is not None and not any(
        part.start_bytes <= found.offset < part.start_bytes + part.size_bytes for part in parts
    )
