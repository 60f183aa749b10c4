r"""What the guest mounts, from its /etc/fstab.

Guarantees: any bytes give entries and problems, within `MAX_ENTRIES`; nothing is looked up or mounted
here. Follows fstab(5) as libmount reads it: fields split by blanks, octal escapes such as `\040`,
comments only at the start of a line; of several mounts at one point the one that systemd would make.

    >>> parse_fstab(b"UUID=0a1b / ext4 defaults 0 1\n").entries
    (MountEntry(device=b'UUID=0a1b', point=b'/', fs_type='ext4', ...),)
"""

import re
from dataclasses import dataclass

from undercroft.disks.text import text
from undercroft.errors import InputError

MAX_ENTRIES = 256
"""More mounts than any real machine's fstab names; the rest is a problem, not ignored."""

MAX_FIELD_BYTES = 4096
"""PATH_MAX of Linux."""


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One mount that the guest would make.

    Attributes:
        device: what is mounted, escapes undone, untrusted.
        point: absolute path of the mount point, without dots and repeated slashes; b"" for none (swap).
        fs_type: the type field in lower case ("ext4", "auto").
        options: the option field, split at commas.
        place: where the entry stands, for messages ("/etc/fstab line 3").
        automatic: whether it is mounted at boot or at first use.
    """

    device: bytes
    point: bytes
    fs_type: str
    options: tuple[str, ...]
    place: str
    automatic: bool = True

    @property
    def is_bind(self) -> bool:
        """Whether it shows a directory of the tree a second time."""
        return bool({"bind", "rbind"} & set(self.options)) or self.fs_type in ("bind", "nullfs")


@dataclass(frozen=True, slots=True)
class MountTable:
    """Entries in file order, the first one of each mount point; and lines that could not be read."""

    entries: tuple[MountEntry, ...]
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


_OCTAL = re.compile(rb"\\([0-3][0-7]{2})")


def parse_fstab(untrusted: bytes, place: str = "/etc/fstab") -> MountTable:
    """Return the entries of an fstab; lines that libmount would refuse become problems."""
    entries: list[MountEntry] = []
    problems: list[str] = []
    for number, line in enumerate(untrusted.split(b"\n"), 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        if len(entries) + len(problems) >= MAX_ENTRIES:
            problems.append(f"{place} line {number}: more than {MAX_ENTRIES} entries, the rest was not read")
            break
        try:
            entries.append(_parse_line(line, f"{place} line {number}"))
        except InputError as error:
            problems.append(str(error))
    return MountTable(tuple(entries), tuple(problems))


def merge(fstab: MountTable, units: tuple[MountEntry, ...]) -> MountTable:
    """Return one entry per mount point, as systemd would make them.

    A unit in /etc takes the place of the one that the generator makes of an fstab line, and that line
    starts it; of two fstab lines for one point the generator keeps the first (systemd-fstab-generator).
    """
    by_point = {unit.point: unit for unit in units}
    merged: dict[bytes, MountEntry] = {}
    notes: list[str] = []
    for entry in fstab.entries:
        if not entry.point:
            continue
        if entry.point in merged:
            notes.append(f"{entry.place}: {text(entry.point)} is mounted by {merged[entry.point].place}")
            continue
        unit = by_point.pop(entry.point, None)
        if unit and entry.automatic:
            unit = MountEntry(unit.device, unit.point, unit.fs_type, unit.options, unit.place)
        merged[entry.point] = unit or entry
    merged.update(by_point)
    kept = tuple(merged.values())
    problems = fstab.problems
    if len(kept) > MAX_ENTRIES:
        problems = (*problems, f"more than {MAX_ENTRIES} mounts, the rest was not read")
    return MountTable(kept[:MAX_ENTRIES], problems, fstab.notes + tuple(notes))


def normalize(path: bytes) -> bytes:
    """Return an absolute path without empty names and dots; ".." is resolved by name, as systemd does."""
    names: list[bytes] = []
    for name in path.split(b"/"):
        if name == b"..":
            del names[-1:]
        elif name not in (b"", b"."):
            names.append(name)
    return b"/" + b"/".join(names)


def _parse_line(line: bytes, place: str) -> MountEntry:
    fields = line.split()
    if len(fields) < 2:
        raise InputError(f"{place}: one field, needs at least a device and a mount point")
    if max(map(len, fields[:4])) > MAX_FIELD_BYTES:
        raise InputError(f"{place}: a field of more than {MAX_FIELD_BYTES} bytes")
    device, point = _unescape(fields[0]), _unescape(fields[1])
    fs_type = text(fields[2]).lower() if len(fields) > 2 else "auto"
    options = tuple(text(_unescape(fields[3])).split(",")) if len(fields) > 3 else ()
    if fs_type == "swap" or point in (b"none", b"swap"):
        point = b""
    elif not point.startswith(b"/"):
        raise InputError(f"{place}: the mount point {text(point)} is not an absolute path")
    on_demand = "x-systemd.automount" in options
    return MountEntry(
        device,
        normalize(point) if point else b"",
        fs_type,
        options,
        place,
        "noauto" not in options or on_demand,
    )


def _unescape(field: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field)
