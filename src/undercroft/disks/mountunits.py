r"""The mounts that systemd units in /etc/systemd/system make (systemd.mount(5)).

Guarantees: any bytes give entries or a reason. Units that state `What=` and `Where=` without specifiers
become entries; the others are given back as unread, with the mount point that their file's name means
(systemd.unit(5), "String Escaping for Inclusion in Unit Names").

    >>> unit_point(b"opt-my\\x2dapp.mount")
    b'/opt/my-app'
"""

import re
from dataclasses import dataclass

from undercroft.disks.fstab import MAX_FIELD_BYTES, MountEntry, normalize
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError

UNITS = b"/etc/systemd/system"

MAX_UNIT_BYTES = 64 << 10
MAX_UNITS = 128
MAX_FILES = 10_000
MAX_LINES = 1000

_HEX = re.compile(rb"\\x([0-9a-f]{2})")


@dataclass(frozen=True, slots=True)
class UnreadUnit:
    """A unit that was not understood: why, and where it would mount."""

    reason: str
    point: bytes


@dataclass(frozen=True, slots=True)
class MountUnits:
    """Mounts by units, units that were not understood, and what could not be listed."""

    entries: tuple[MountEntry, ...]
    unread: tuple[UnreadUnit, ...] = ()
    problems: tuple[str, ...] = ()


def read_mount_units(tree: GuestTree) -> MountUnits:
    """Return the mount units in `tree`, automatic where a .wants or .requires folder holds their name."""
    entries: list[MountEntry] = []
    unread: list[UnreadUnit] = []
    try:
        units, wanted = _unit_names(tree)
    except NotFoundError:
        return MountUnits(())
    except InputError as error:
        return MountUnits((), (), (f"the mount units are unknown: {error}",))
    for unit in units[:MAX_UNITS]:
        path = UNITS + b"/" + unit
        try:
            entries.append(parse_mount_unit(tree.read(path, MAX_UNIT_BYTES), text(path), unit in wanted))
        except NotFoundError:
            continue  # a mask, or a link whose target is gone
        except InputError as error:
            unread.append(UnreadUnit(str(error), unit_point(unit)))
    problems = (f"{text(UNITS)}: more than {MAX_UNITS} mount units",) if len(units) > MAX_UNITS else ()
    return MountUnits(tuple(entries), tuple(unread), problems)


def parse_mount_unit(untrusted: bytes, place: str, automatic: bool) -> MountEntry:
    """Return the entry of a systemd mount unit.

    Raises:
        InputError: `What=` or `Where=` is missing, or a specifier ("%h") stands in one of them.
    """
    values: dict[bytes, bytes] = {}
    section = b""
    for line in untrusted.replace(b"\\\n", b" ").split(b"\n")[:MAX_LINES]:
        stripped = line.strip()
        if stripped.startswith(b"["):
            section = stripped
        elif section == b"[Mount]" and not stripped.startswith((b"#", b";")):
            key, equals, value = stripped.partition(b"=")
            if equals:
                values[key.strip()] = value.strip()
    device, point = values.get(b"What", b""), values.get(b"Where", b"")
    if not device or not point.startswith(b"/") or b"%" in (device + point).replace(b"%%", b""):
        raise InputError(f"{place}: needs What= and an absolute Where= without specifiers")
    if len(device) > MAX_FIELD_BYTES or len(point) > MAX_FIELD_BYTES:
        raise InputError(f"{place}: a field of more than {MAX_FIELD_BYTES} bytes")
    options = text(values.get(b"Options", b"")).split(",")
    return MountEntry(
        device=device.replace(b"%%", b"%"),
        point=normalize(point.replace(b"%%", b"%")),
        fs_type=text(values.get(b"Type", b"auto"))[:64].lower(),
        options=tuple(option for option in options if option),
        place=place,
        automatic=automatic,
    )


def unit_point(name: bytes) -> bytes:
    """Return the mount point that a unit's file name means."""
    path = name.removesuffix(b".mount").replace(b"-", b"/")
    return normalize(_HEX.sub(lambda match: bytes([int(match[1], 16)]), path))


def _unit_names(tree: GuestTree) -> tuple[list[bytes], set[bytes]]:
    """Return the names of all mount units, and those that a target wants."""
    units: list[bytes] = []
    wanted: set[bytes] = set()
    folders = [UNITS]
    seen = 0
    while folders:
        folder = folders.pop()
        for entry in tree.entries(folder):
            seen += 1
            if seen > MAX_FILES:
                raise InputError(f"{text(UNITS)}: more than {MAX_FILES} files")
            if entry.name.endswith(b".mount"):
                (units.append if folder == UNITS else wanted.add)(entry.name)
            elif folder == UNITS and entry.name.endswith((b".wants", b".requires")):
                folders.append(UNITS + b"/" + entry.name)
    return sorted(units), wanted
