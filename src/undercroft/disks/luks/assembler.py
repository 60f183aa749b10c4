"""LUKS as a set of one member: the encrypted volume, which gives the device with its data.

A device is named luks-UUID, as systemd and dracut name what no /etc/crypttab does; `disks.crypttab` adds
the names that a guest's own crypttab gives.
"""

import re
from collections.abc import Sequence

from undercroft.disks import luks
from undercroft.disks.stack import Assembly, Device, Member, Request
from undercroft.errors import InputError

_UUID = re.compile(r"[0-9a-f-]{1,40}")


def assemble(members: Sequence[Member], request: Request) -> Assembly:
    """Return a device for each member that a key opens; each other one is refused with the reason."""
    done = Assembly()
    for member in members:
        try:
            device = _open(member, request)
        except InputError as error:
            done.refused[member] = str(error)
        else:
            done.devices.append(device)
            done.parts[member] = device.name
    return done


def _open(member: Member, request: Request) -> Device:
    header = luks.read_header(member.source)
    key = luks.unlocked(member.source, header, (member.name, member.part_uuid), request.keys)
    # The UUID is text that anybody may have written, and becomes part of a path.
    name = f"luks-{header.uuid if _UUID.fullmatch(header.uuid) else member.name.replace('/', '-')}"
    source = luks.decrypted(member.source, header, key, name)
    paths = (f"/dev/mapper/{name}", f"/dev/disk/by-id/dm-name-{name}")
    return Device(name, paths, (member,), source.size_bytes, source, note="; ".join(header.notes))
