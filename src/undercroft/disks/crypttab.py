"""The names that guests give their encrypted volumes: /etc/crypttab, as mounts and boot menus use them.

Every readable filesystem that has one is asked, since which of them is the root is not known yet, and may
depend on it: an fstab names "/" as /dev/mapper/vda3_crypt. A name is an alias of the device beside
/dev/mapper/luks-UUID, and one that leads to several devices leads to none (`devices.find_volumes`). Follows
crypttab(5) of cryptsetup and systemd.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from undercroft.disks.devices import find_volumes, parse_device
from undercroft.disks.tree import GuestTree
from undercroft.disks.volumes import OpenVolume
from undercroft.errors import InputError, NotFoundError

CRYPTTAB = b"/etc/crypttab"
MAX_CRYPTTAB_BYTES = 64 << 10
MAX_ENTRIES = 64

_NAME = re.compile(rb"[A-Za-z0-9#+.:=@_-]{1,127}")
"""What device-mapper takes as it stands (libdm, DEV_NAME whitelist)."""


def parse_crypttab(untrusted: bytes) -> list[tuple[str, bytes]]:
    """Return (name, device) of each entry, at most `MAX_ENTRIES`; what is no entry is left out."""
    found = []
    for line in untrusted.splitlines():
        words = line.split()
        if len(words) >= 2 and _NAME.fullmatch(words[0]) and not words[0].startswith(b"#"):
            found.append((words[0].decode("ascii"), words[1]))
    return found[:MAX_ENTRIES]


def named_by_crypttabs(volumes: Sequence[OpenVolume]) -> tuple[OpenVolume, ...]:
    """Return the same volumes, the devices of encrypted ones with the names that crypttabs give them."""
    encrypted = {volume.name for volume in volumes if volume.content.kind.startswith("luks")}
    if not encrypted or not any(encrypted.intersection(volume.members) for volume in volumes):
        return tuple(volumes)
    paths: dict[str, dict[str, None]] = {}
    for name, device in _entries(volumes):
        for member in find_volumes(parse_device(device), volumes):
            paths.setdefault(member.name, {})[f"/dev/mapper/{name}"] = None
    return tuple(_with_paths(volume, encrypted, paths) for volume in volumes)


def _entries(volumes: Sequence[OpenVolume]) -> Iterator[tuple[str, bytes]]:
    for volume in volumes:
        if volume.filesystem is None:
            continue
        try:
            yield from parse_crypttab(GuestTree(volume.filesystem).read(CRYPTTAB, MAX_CRYPTTAB_BYTES))
        except (InputError, NotFoundError):
            continue  # a mount that needs the name is told as one whose device is not there


def _with_paths(volume: OpenVolume, encrypted: set[str], paths: dict[str, dict[str, None]]) -> OpenVolume:
    if volume.device is None or len(volume.members) != 1 or volume.members[0] not in encrypted:
        return volume
    added = [path for path in paths.get(volume.members[0], {}) if path not in volume.device.paths]
    return replace(volume, device=replace(volume.device, paths=(*volume.device.paths, *added)))
