"""System use fields (SUSP) and what Rock Ridge says in them: POSIX names, modes, links, deep directories."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from undercroft.disks.iso9660 import layout
from undercroft.disks.iso9660.records import both, long_time, short_time
from undercroft.errors import InputError

Read = Callable[[int, int, int], bytes]
"""Takes block, offset and length of a continuation and returns its bytes, or raises InputError."""

Field = tuple[bytes, bytes]
"""A field's signature, and what follows its header."""


class Posix(NamedTuple):
    """What Rock Ridge says of a file.

    Attributes:
        name: b"" for none.
        mode: with its type bits, -1 where it is not said; then owner and links are not, either.
        links, uid, gid: likewise.
        modified_at_s: None where it is not said.
        target: of a symlink, b"" for none.
        directory_block: where a deep directory really lies, -1 for none.
        is_relocated: the record is a deep directory's second name, in a place where nobody should see it.
        device: its number, 0 where it is none.
        unpacked_bytes: the size of a file that zisofs compresses, -1 where it does not.
    """

    name: bytes = b""
    mode: int = -1
    links: int = 1
    uid: int = 0
    gid: int = 0
    modified_at_s: int | None = None
    target: bytes = b""
    directory_block: int = -1
    is_relocated: bool = False
    device: int = 0
    unpacked_bytes: int = -1


NOTHING = Posix()


def fields(area: bytes, read: Read, what: str) -> Iterator[Field]:
    """Yield the fields of a system use area and of its continuations.

    Raises:
        InputError: a field is malformed, a continuation cannot be read, or there are too many.
    """
    for _ in range(layout.MAX_CONTINUATIONS + 1):
        position, following = 0, None
        while position + layout.SYSTEM_USE_HEADER_BYTES <= len(area):
            length = area[position + 2]
            if not any(area[position : position + 3]):
                break  # padding
            if length < layout.SYSTEM_USE_HEADER_BYTES or position + length > len(area):
                raise InputError(f"{what}: a system use field of {length} bytes breaks the format")
            signature = area[position : position + 2]
            data = area[position + layout.SYSTEM_USE_HEADER_BYTES : position + length]
            position += length
            if signature == b"CE":
                following = [both(data, offset, 4, what) for offset in (0, 8, 16)]
            elif signature == b"ST":
                break
            else:
                yield signature, data
        if following is None:
            return
        block, offset, size = following
        if size > layout.MAX_CONTINUATION_BYTES or offset > layout.MAX_CONTINUATION_BYTES:
            raise InputError(f"{what}: its system use area goes on for {size} bytes at {offset}")
        area = read(block, offset, size)
    raise InputError(f"{what}: its system use area goes on more than {layout.MAX_CONTINUATIONS} times")


class Start(NamedTuple):
    """What the root's record says of the tree: bytes to skip, and whether Rock Ridge is announced."""

    skip: int
    is_announced: bool


def start_of(area: bytes, read: Read) -> Start | None:
    """Return how the tree's fields are read, None where its root has none."""
    what = "iso9660 root"
    for before in (0, layout.XA_BYTES):
        if area[before : before + 2] == b"SP" and area[before + 4 : before + 6] == layout.SP_MAGIC:
            skip = area[before + 6] if len(area) > before + 6 else 0
            announced = any(signature == b"ER" for signature, _ in fields(area[before:], read, what))
            return Start(skip, announced)
    return None


def posix(area: bytes, read: Read, what: str) -> Posix:
    """Return what the fields in `area` say. Raises InputError where one is malformed."""
    said: dict[str, object] = {}
    name, target, joins, is_cut = b"", b"", False, False
    for signature, data in fields(area, read, what):
        if signature == b"NM":
            piece = _name(data, what)
            is_cut = is_cut or len(name) + len(piece) >= layout.MAX_NAME_BYTES
            name += b"" if is_cut else piece
        elif signature == b"SL":
            piece, joins = _target(data, what, joins)
            target += piece
            if len(target) > layout.MAX_LINK_BYTES:
                raise InputError(f"{what}: a symlink of more than {layout.MAX_LINK_BYTES} bytes")
        elif parser := _PARSERS.get(signature):
            said.update(parser(data, what))
    if b"/" in name or b"\0" in name or b"\0" in target:
        raise InputError(f"{what}: a name of {len(name)} bytes, or no name")
    return Posix(name=name, target=target, **said)  # type: ignore[arg-type] # each parser gives its own fields


def _name(data: bytes, what: str) -> bytes:
    if not data:
        raise InputError(f"{what}: a name without flags")
    return b"" if data[0] & layout.NAME_SPECIAL else data[1:]


def _target(data: bytes, what: str, joins: bool) -> tuple[bytes, bool]:
    """Return a part of a symlink's target, and whether a slash stands before what follows it.

    A component that goes on in the next one has no slash behind it, nor has the root.
    """
    found = b""
    position = 1
    while position + 2 <= len(data):
        flags, length = data[position], data[position + 1]
        text = data[position + 2 : position + 2 + length]
        if len(text) != length or b"/" in text:
            raise InputError(f"{what}: a symlink's component of {length} bytes")
        kind = flags & ~layout.LINK_CONTINUES
        if kind not in _COMPONENTS:
            raise InputError(f"{what}: a symlink's component with the flags {flags:#x}")
        found += (b"/" if joins else b"") + (_COMPONENTS[kind] or text)
        joins = kind != layout.LINK_ROOT and not flags & layout.LINK_CONTINUES
        position += 2 + length
    return found, joins


_COMPONENTS = {0: b"", layout.LINK_HERE: b".", layout.LINK_ABOVE: b"..", layout.LINK_ROOT: b"/"}


def _attributes(data: bytes, what: str) -> dict[str, object]:
    mode, links, uid, gid = (both(data, offset, 4, what) for offset in (0, 8, 16, 24))
    if mode >> 16:
        raise InputError(f"{what}: a mode of {mode:#o}")
    return {"mode": mode, "links": links, "uid": uid, "gid": gid}


def _device(data: bytes, what: str) -> dict[str, object]:
    return {"device": both(data, 0, 4, what) << 32 | both(data, 8, 4, what)}


def _times(data: bytes, what: str) -> dict[str, object]:
    if not data or not data[0] & layout.TIME_MODIFIED:
        return {}
    is_long = data[0] & layout.TIME_LONG
    size = layout.LONG_TIME_BYTES if is_long else layout.SHORT_TIME_BYTES
    start = 1 + (size if data[0] & layout.TIME_CREATED else 0)
    stamp = data[start : start + size]
    if len(stamp) != size:
        raise InputError(f"{what}: its times are cut off")
    return {"modified_at_s": long_time(stamp) if is_long else short_time(stamp)}


def _child(data: bytes, what: str) -> dict[str, object]:
    return {"directory_block": both(data, 0, 4, what)}


def _relocated(_data: bytes, _what: str) -> dict[str, object]:
    return {"is_relocated": True}


def _packed(data: bytes, what: str) -> dict[str, object]:
    return {"unpacked_bytes": both(data, 4, 4, what)} if data[:2] == b"pz" else {}


_PARSERS: dict[bytes, Callable[[bytes, str], dict[str, object]]] = {
    b"PX": _attributes,
    b"PN": _device,
    b"TF": _times,
    b"CL": _child,
    b"RE": _relocated,
    b"ZF": _packed,
}
