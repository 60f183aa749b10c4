"""btrfs as a set: a filesystem on several devices is one device, opened once all of them are there.

One of a single device is left to be opened as any other filesystem, as each copy of it on a cloned disk is.
"""

from collections.abc import Sequence

from undercroft.disks.btrfs import filesystem, superblock
from undercroft.disks.btrfs.superblock import Superblock
from undercroft.disks.stack import Assembly, Device, Member, Request
from undercroft.errors import InputError


def assemble(members: Sequence[Member], request: Request) -> Assembly:
    """Return one device for each filesystem on several devices; the others are left.

    Of two copies of a device the newer one counts, as in the kernel. A filesystem that lacks a device waits
    until the last turn, and is then read as far as its copies go.
    """
    done = Assembly()
    filesystems: dict[bytes, dict[int, tuple[Member, Superblock]]] = {}
    for member in members:
        try:
            found = superblock.find(member.source).superblock
        except InputError:
            done.left.append(member)  # whoever opens it says what is wrong
            continue
        if found.devices == 1:
            done.left.append(member)
            continue
        devices = filesystems.setdefault(found.fsid, {})
        number = found.device[0]
        known = devices.get(number)
        if known is None or known[1].generation < found.generation:
            devices[number] = (member, found)
        if known is not None:
            older = member if devices[number] is known else known[0]
            counted = devices[number][0].name
            done.refused[older] = f"a copy of device {number} of the btrfs filesystem, which is {counted}"
    for devices in filesystems.values():
        expected = max(found.devices for _, found in devices.values())
        if len(devices) >= expected or request.last:
            device = _device([devices[number] for number in sorted(devices)], opens=request.opens)
            done.devices.append(device)
            done.parts.update(dict.fromkeys(device.members, device.name))
    return done


def _device(devices: Sequence[tuple[Member, Superblock]], *, opens: bool) -> Device:
    members = tuple(member for member, _ in devices)
    content = members[0].content
    name = f"btrfs-{content.uuid.lower()}"
    size_bytes = sum(min(found.device[2], member.source.size_bytes) for member, found in devices)
    if not opens:
        return Device(name, (), members, size_bytes, content=content, by_member=True)
    try:
        opened = filesystem.open_filesystem(members[0].source, [member.source for member in members[1:]])
    except InputError as error:
        return Device(name, (), members, size_bytes, None, None, content, str(error), by_member=True)
    return Device(name, (), members, size_bytes, None, opened, content, by_member=True)
