"""The text that describes a vmdk image: its extents, its parent, how it was made.

Guarantees: at most `MAX_DESCRIPTOR_BYTES` and `MAX_EXTENTS`; a line that looks like an extent's and is not
understood raises, and is never left out; names are values and stay as they are written. Where QEMU
(block/vmdk.c) would give its guest another disk than the specification says, the image is refused: what is
judged has to be what runs. Follows "The Descriptor File" of "Virtual Disk Format 5.0".

    # Disk DescriptorFile
    version=1
    CID=123a1234
    parentCID=ffffffff
    createType="twoGbMaxExtentSparse"
    RW 4192256 SPARSE "disk-s001.vmdk"
"""

import re
from dataclasses import dataclass
from typing import Final

from undercroft.disks.vmdk.layout import MAX_CAPACITY_SECTORS
from undercroft.errors import InputError, UnsupportedError

MAGIC: Final = b"# Disk DescriptorFile"
MAX_DESCRIPTOR_BYTES: Final = 1 << 20
"""QEMU's limit."""

MAX_EXTENTS: Final = 4096
MAX_NAME_BYTES: Final = 511
NO_PARENT: Final = "ffffffff"
HINT: Final = "parentFileNameHint"
"""QEMU looks for this word wherever it stands, and opens what follows whatever parentCID says."""


SPARSE, FLAT, ZERO = "SPARSE", "FLAT", "ZERO"
_FLAT_KINDS: Final = ("FLAT", "VMFS")
"""A VMFS extent is a flat file on an ESX host's own filesystem."""

_ACCESS: Final = frozenset({"RW", "RDONLY", "NOACCESS"})
_EXTENT: Final = re.compile(
    r"(RW|RDONLY|NOACCESS)[ \t]+([0-9]{1,18})[ \t]+([A-Za-z]+)"
    r'(?:[ \t]+"([^"]*)"(?:[ \t]+([0-9]{1,18}))?)?[ \t]*'
)
_SETTING: Final = re.compile(
    r'(CID|parentCID|createType|parentFileNameHint|version)[ \t]*=[ \t]*"?([^"]*)"?[ \t]*'
)
_CID: Final = re.compile(r"[0-9a-fA-F]{1,8}")


@dataclass(frozen=True, slots=True)
class Extent:
    """One extent.

    Attributes:
        sectors: of the virtual disk.
        kind: SPARSE, FLAT or ZERO.
        name: the file's, as written; "" for ZERO.
        start_sector: where a flat extent begins in its file.
    """

    sectors: int
    kind: str
    name: str
    start_sector: int


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a descriptor says.

    Attributes:
        create_type: "monolithicSparse", "twoGbMaxExtentFlat", ...
        cid: of the content, eight digits; changes with the first write after an opening.
        parent_cid: the parent's, "" for none.
        parent_name: what it calls its parent's file, "" for none.
        extents: in the order of the disk.
    """

    create_type: str
    cid: str
    parent_cid: str
    parent_name: str
    extents: tuple[Extent, ...]


def parse(untrusted: bytes, name: str) -> Descriptor:
    """Return what a descriptor says.

    Args:
        untrusted: its bytes; a NUL ends it, as it does one that is embedded in an image.
        name: of the image, for messages.

    Raises:
        InputError: no descriptor, over a limit, a line that contradicts another or is malformed.
        UnsupportedError: an extent of a kind that is not read.
    """
    if not untrusted.startswith(MAGIC):
        raise InputError(f"{name}: has no vmdk descriptor")
    if len(untrusted) > MAX_DESCRIPTOR_BYTES:
        raise InputError(f"{name}: a descriptor of over {MAX_DESCRIPTOR_BYTES} bytes")
    text = untrusted.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    settings: dict[str, str] = {}
    extents: list[Extent] = []
    hints = 0
    for raw_line in text.split("\n"):
        line = raw_line.strip(" \t\r")
        hints += line.startswith(HINT) and bool(_SETTING.fullmatch(line))
        if line.split(None, 1)[:1] and line.split(None, 1)[0] in _ACCESS:
            extents.append(_extent(line, name))
            if len(extents) > MAX_EXTENTS:
                raise InputError(f"{name}: its descriptor has over {MAX_EXTENTS} extents")
        elif found := _SETTING.fullmatch(line):
            key, value = found.groups()
            if settings.setdefault(key, value) != value:
                raise InputError(f"{name}: its descriptor says {key} twice, {settings[key]!r} and {value!r}")
    if text.count(HINT) != hints:
        raise InputError(f"{name}: its descriptor names a parent where none is named, as in a comment")
    if any(extent.kind == ZERO for extent in extents[:-1]):
        raise UnsupportedError(f"{name}: an extent of zeros before others, which QEMU leaves out of the disk")
    if sum(extent.sectors for extent in extents) > MAX_CAPACITY_SECTORS:
        raise InputError(f"{name}: its extents are over the limit of {MAX_CAPACITY_SECTORS} sectors together")
    return _described(settings, tuple(extents), name)


def _described(settings: dict[str, str], extents: tuple[Extent, ...], name: str) -> Descriptor:
    cid, parent = _cid(settings, "CID", name), _cid(settings, "parentCID", name)
    parent_name = settings.get("parentFileNameHint", "")
    if parent == NO_PARENT:
        if parent_name:
            raise InputError(f"{name}: its descriptor names the parent {parent_name!r}, and says it has none")
        return Descriptor(settings.get("createType", ""), cid, "", "", extents)
    if not parent_name:
        raise InputError(f"{name}: its descriptor has a parent with the CID {parent}, and does not name it")
    return Descriptor(settings.get("createType", ""), cid, parent, parent_name, extents)


def _cid(settings: dict[str, str], key: str, name: str) -> str:
    value = settings.get(key, NO_PARENT)
    if not _CID.fullmatch(value):
        raise InputError(f"{name}: its descriptor has the malformed {key} {value!r}")
    return value.lower().rjust(8, "0")


def _extent(line: str, name: str) -> Extent:
    found = _EXTENT.fullmatch(line)
    if found is None:
        raise InputError(f"{name}: its descriptor has the malformed extent {line[:200]!r}")
    access, sectors, written, file_name, start = found.groups()
    kind = written.upper()
    if access != "RW":
        raise UnsupportedError(
            f"{name}: its extent {file_name!r} is {access}, which QEMU leaves out of the disk"
        )
    if kind == ZERO:
        return Extent(int(sectors), ZERO, "", 0)
    if kind != SPARSE and kind not in _FLAT_KINDS:
        raise UnsupportedError(f"{name}: extents of the kind {kind} are not supported")
    if not file_name:
        raise InputError(f"{name}: its descriptor has an extent without a file, {line[:200]!r}")
    if len(file_name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES or "\r" in file_name:
        raise InputError(f"{name}: its descriptor has an extent whose name QEMU would cut, {line[:200]!r}")
    return Extent(int(sectors), SPARSE if kind == SPARSE else FLAT, file_name, int(start or 0))
