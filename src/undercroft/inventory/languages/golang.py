"""What a Go program was built from, by the build information that the linker leaves in it.

Follows Go's debug/buildinfo: a section .go.buildinfo with a magic, flags, and since Go 1.18 the version and
the list of modules in place, each behind its length. Of older programs only pointers stand there: they are
told by name. `stdlib` is the standard library, of the toolchain's version.
"""

import struct
from collections.abc import Sequence

from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError
from undercroft.inventory.guestfile import GuestFile
from undercroft.inventory.languages.finding import Candidate, package
from undercroft.model.inventory import Package

MAX_SECTIONS = 200
MAX_NAMES_BYTES = 64 << 10
MAX_INFO_BYTES = 1 << 20
MAX_MODULES = 5000
MAX_LENGTH_BYTES = 5

MAGIC = b"\xff Go buildinf:"
SECTION = b".go.buildinfo"
_INLINE = 0x2
_HEADER_BYTES = 32
_SENTINEL_BYTES = 16
_SECTION_HEADER = struct.Struct("<IIQQQQIIQQ")


def candidates(executables: Sequence[bytes]) -> list[Candidate]:
    """Return the executables that may be Go programs."""
    return [_candidate(path) for path in executables]


def _candidate(path: bytes) -> Candidate:
    return Candidate(path, lambda tree: _read(tree, path))


def _read(tree: GuestTree, path: bytes) -> list[Package]:
    """Return the modules of a program, [] where it is none of Go's. Raises InputError: it is malformed."""
    file = GuestFile(tree, path)
    head = file.read(0, min(64, file.size_bytes))
    if len(head) < 64 or head[:6] != b"\x7fELF\x02\x01":  # 64 bits, little-endian
        return []
    info = _section(file, head)
    if info is None:
        return []
    if info[:14] != MAGIC or len(info) < _HEADER_BYTES:
        raise InputError("go: the build information has no magic")
    if not info[15] & _INLINE:
        raise InputError("go: build information from before Go 1.18 is not supported")
    version, at = _text(info, _HEADER_BYTES)
    modules, _ = _text(info, at)
    return _packages(version, modules[_SENTINEL_BYTES:-_SENTINEL_BYTES].decode("utf-8", "surrogateescape"))


def _section(file: GuestFile, head: bytes) -> bytes | None:
    """Return the bytes of .go.buildinfo, None where the program has no such section."""
    (table,) = struct.unpack_from("<Q", head, 40)
    width, count, names_at = struct.unpack_from("<3H", head, 58)
    if not count or width != _SECTION_HEADER.size:
        return None
    if count > MAX_SECTIONS or names_at >= count:
        raise InputError(f"go: {count} sections with the names in number {names_at}")
    sections = list(_SECTION_HEADER.iter_unpack(file.read(table, count * width)))
    names = sections[names_at]
    text = file.read(names[4], min(names[5], MAX_NAMES_BYTES))
    for name, kind, _, _, offset, size, *_ in sections:
        if text[name : name + len(SECTION) + 1] == SECTION + b"\0" and kind == 1:
            return file.read(offset, min(size, MAX_INFO_BYTES))
    return None


def _text(info: bytes, at: int) -> tuple[bytes, int]:
    """Return (bytes, offset behind them) of a text behind its length (uvarint)."""
    length = shift = 0
    for byte in info[at : at + MAX_LENGTH_BYTES]:
        length |= (byte & 0x7F) << shift
        shift += 7
        at += 1
        if byte < 0x80:
            break
    if length > len(info) - at:
        raise InputError(f"go: a text of {length} bytes in build information of {len(info)}")
    return info[at : at + length], at + length


def _packages(version: bytes, modules: str) -> list[Package]:
    found: list[Package] = []
    release = version.decode("ascii", "replace").partition(" ")[0]
    if release.startswith("go"):
        found.append(package("go", "stdlib", release[2:]))
    for line in modules.split("\n"):
        kind, *fields = line.split("\t")
        if kind not in {"mod", "dep", "=>"} or len(fields) < 2:
            continue
        if len(found) >= MAX_MODULES:
            raise InputError(f"go: more than {MAX_MODULES} modules")
        if kind == "=>" and found:
            found.pop()  # it stands in place of the module before
        if fields[1] != "(devel)" and fields[1]:
            found.append(package("go", fields[0], fields[1]))
    return found
