"""The envelope of an OVF package: which of its files are the disks of the machine.

Guarantees: at most `MAX_ENVELOPE_BYTES`, `MAX_ELEMENTS` and `MAX_DEPTH`; a document type, and with it every
entity of a document's own, is refused, and so is an encoding that expat does not know; names are values.
Follows DSP0243, "Open Virtualization Format", 7.1 and 9.1.
"""

from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from undercroft.errors import InputError, UnsupportedError
from undercroft.model.disk import DiskFormat

MAX_ENVELOPE_BYTES: Final = 4 << 20
MAX_ELEMENTS: Final = 100_000
MAX_DEPTH: Final = 64
MAX_DISKS: Final = 64
ENCODINGS: Final = frozenset({"utf-8", "us-ascii", "iso-8859-1", "utf-16"})

_FORMATS: Final = (
    ("vmdk", DiskFormat.VMDK),
    ("vhdx", DiskFormat.VHDX),
    ("vhd", DiskFormat.VHD),
    ("vdi", DiskFormat.VDI),
    ("qcow", DiskFormat.QCOW2),
    ("raw", DiskFormat.RAW),
)
"""By what occurs in the address that names a format; the first that fits."""


@dataclass(frozen=True, slots=True)
class EnvelopeDisk:
    """A disk and its file.

    Attributes:
        name: the file's, as written.
        format: as the envelope's address of the format says, None where it says nothing known.
        problem: why it cannot be read, "" when it can.
    """

    name: str
    format: DiskFormat | None
    problem: str = ""


@dataclass
class _Seen:
    """What came by in the document."""

    files: dict[str, dict[str, str]] = field(default_factory=dict)
    disks: list[dict[str, str]] = field(default_factory=list)
    machines: int = 0
    depth: int = 0
    elements: int = 0
    root: str = ""


def parse(untrusted: bytes, name: str) -> tuple[EnvelopeDisk, ...]:
    """Return the disks that an envelope describes, in its order; disks without a file are left out.

    Raises:
        InputError: no envelope, malformed, over a limit.
        UnsupportedError: it describes several machines.
    """
    if len(untrusted) > MAX_ENVELOPE_BYTES:
        raise InputError(f"{name}: an envelope of over {MAX_ENVELOPE_BYTES} bytes")
    seen = _Seen()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = lambda tag, attributes: _start(seen, tag, attributes, name)
    parser.EndElementHandler = lambda _tag: _end(seen)
    parser.StartDoctypeDeclHandler = lambda *_: _refuse(name)
    parser.XmlDeclHandler = lambda _version, encoding, _standalone: _check_encoding(encoding, name)
    try:
        parser.Parse(untrusted, True)
    except expat.ExpatError as error:
        raise InputError(f"{name}: its envelope is malformed: {error}") from error
    if seen.root != "Envelope":
        raise InputError(f"{name}: has no OVF envelope")
    if seen.machines > 1:
        raise UnsupportedError(f"{name}: describes {seen.machines} machines, which is not supported")
    found = tuple(_disk(disk, seen.files, name) for disk in seen.disks if disk.get("fileRef"))
    if len(found) > MAX_DISKS:
        raise InputError(f"{name}: {len(found)} disks are over the limit of {MAX_DISKS}")
    return found


def _start(seen: _Seen, tag: str, attributes: dict[str, str], name: str) -> None:
    seen.depth += 1
    seen.elements += 1
    if seen.depth > MAX_DEPTH or seen.elements > MAX_ELEMENTS:
        raise InputError(f"{name}: its envelope has too many elements")
    local = tag.rpartition(" ")[2]
    plain = {key.rpartition(" ")[2]: value for key, value in attributes.items()}
    if seen.depth == 1:
        seen.root = local
    elif local == "File" and "id" in plain:
        if plain["id"] in seen.files:
            raise InputError(f"{name}: its envelope names the file {plain['id']!r} twice")
        seen.files[plain["id"]] = plain
    elif local == "Disk":
        seen.disks.append(plain)
    elif local == "VirtualSystem":
        seen.machines += 1


def _end(seen: _Seen) -> None:
    seen.depth -= 1


def _refuse(name: str) -> None:
    raise InputError(f"{name}: its envelope has a document type, which no envelope needs")


def _check_encoding(encoding: str | None, name: str) -> None:
    """Raise InputError for an encoding that is not expat's own: Python's codecs would be asked for it."""
    if (encoding or "utf-8").lower() not in ENCODINGS:
        raise InputError(f"{name}: its envelope is in the encoding {encoding!r}, and envelopes are in UTF-8")


def _disk(disk: dict[str, str], files: dict[str, dict[str, str]], name: str) -> EnvelopeDisk:
    reference = disk["fileRef"]
    file = files.get(reference)
    if file is None or not file.get("href"):
        raise InputError(f"{name}: its envelope has a disk in the file {reference!r}, which it does not name")
    address = disk.get("format", "").lower()
    kind = next((found for word, found in _FORMATS if word in address), None)
    problem = ""
    if file.get("compression", "identity") != "identity":
        problem = f"its file is compressed with {file['compression']!r}, which is not supported"
    elif file.get("chunkSize"):
        problem = "its file lies in several pieces, which is not supported"
    elif disk.get("parentRef"):
        problem = "it is a difference to another disk of the envelope, which is not supported"
    return EnvelopeDisk(file["href"], kind, problem)
