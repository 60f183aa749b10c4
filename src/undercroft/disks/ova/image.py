"""A virtual appliance's own account of itself: its disks, and what its manifest says of them."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Final

from undercroft.disks.ova.archive import MAGIC, MAGIC_OFFSET, Member, members
from undercroft.disks.ova.envelope import MAX_ENVELOPE_BYTES, EnvelopeDisk, parse
from undercroft.disks.source import BlockSource
from undercroft.errors import InputError
from undercroft.model.disk import DiskFormat, ImageInfo, InnerDisk

MAX_MANIFEST_BYTES: Final = 1 << 20
MAX_CHECKED_BYTES: Final = 1 << 30
"""Of all members together whose digests are checked; what is beyond is noted as unchecked."""

_CHUNK_BYTES: Final = 1 << 20
_LINE: Final = re.compile(
    rb"(SHA1|SHA256|SHA512)[ ]?\(([^\n]{1,1024})\)[ ]*=[ ]*([0-9a-fA-F]{40,128})[ \t\r]*"
)
_ALGORITHMS: Final = {b"SHA1": "sha1", b"SHA256": "sha256", b"SHA512": "sha512"}


def inspect(source: BlockSource, *, name: str = "image", check: bool = True) -> ImageInfo:
    """Return which disks an archive, or an envelope on its own, describes.

    An envelope's disks are files of its folder; their `offset_bytes` is -1, and nothing is checked.

    Args:
        source: the archive or envelope, untrusted.
        name: of it, for messages.
        check: whether the manifest's digests are checked, which takes seconds.

    Raises:
        InputError: malformed, over a limit, or a digest is wrong.
        UnsupportedError: it describes several machines.
    """
    start = source.read(0, min(source.size_bytes, MAGIC_OFFSET + len(MAGIC)))
    if start[MAGIC_OFFSET:] != MAGIC:
        disks = tuple(_described(disk) for disk in parse(_whole(source, MAX_ENVELOPE_BYTES, name), name))
        return _info(source, disks, ())
    found = _by_name(members(source, name), name)
    envelope = [member for member in found.values() if member.name.endswith(".ovf")]
    if len(envelope) != 1:
        raise InputError(f"{name}: has {len(envelope)} envelopes (.ovf), and an appliance has one")
    text = source.read(envelope[0].offset, min(envelope[0].size_bytes, MAX_ENVELOPE_BYTES + 1))
    disks = tuple(_placed(disk, found) for disk in parse(text, name))
    return _info(source, disks, tuple(_unchecked(source, found, disks, name)) if check else ())


def _info(source: BlockSource, disks: tuple[InnerDisk, ...], notes: tuple[str, ...]) -> ImageInfo:
    return ImageInfo(format=DiskFormat.OVA, size_bytes=source.size_bytes, disks=disks, notes=notes)


def _whole(source: BlockSource, limit: int, name: str) -> bytes:
    if source.size_bytes > limit:
        raise InputError(f"{name}: is no OVF package, or its envelope has over {limit} bytes")
    return source.read(0, source.size_bytes)


def _by_name(found: Iterator[Member], name: str) -> Mapping[str, Member]:
    """Return the members by name. Raises InputError for one that is there twice: readers differ then."""
    by_name: dict[str, Member] = {}
    for member in found:
        plain = member.name.removeprefix("./")
        if plain in by_name:
            raise InputError(f"{name}: has two members of the name {plain!r}")
        by_name[plain] = Member(plain, member.offset, member.size_bytes)
    return by_name


def _described(disk: EnvelopeDisk) -> InnerDisk:
    return InnerDisk(disk.name, -1, 0, disk.format, disk.problem)


def _placed(disk: EnvelopeDisk, found: Mapping[str, Member]) -> InnerDisk:
    member = found.get(disk.name)
    if member is None:
        return InnerDisk(disk.name, -1, 0, disk.format, disk.problem or "it is not in the archive")
    return InnerDisk(disk.name, member.offset, member.size_bytes, disk.format, disk.problem)


def _unchecked(
    source: BlockSource, found: Mapping[str, Member], disks: tuple[InnerDisk, ...], name: str
) -> Iterator[str]:
    """Check the digests of the manifest, and yield what could not be checked.

    Raises InputError where a digest is wrong, or the manifest is malformed.
    """
    manifests = [member for member in found.values() if member.name.endswith(".mf")]
    if len(manifests) != 1:
        yield "has no manifest, so that nothing tells whether it is whole"
        return
    digests = _digests(source, manifests[0], name)
    budget = MAX_CHECKED_BYTES
    for disk in disks:
        stated = digests.get(disk.name)
        if stated is None or disk.offset_bytes < 0:
            yield f"its manifest has no digest of {disk.name!r}"
        elif disk.size_bytes > budget:
            yield f"the digest of {disk.name!r} was not checked: {disk.size_bytes} bytes are over the limit"
        else:
            budget -= disk.size_bytes
            _check_digest(source, disk, *stated, name=name)


def _digests(source: BlockSource, manifest: Member, name: str) -> dict[str, tuple[str, bytes]]:
    """Return (algorithm, digest) by file name."""
    if manifest.size_bytes > MAX_MANIFEST_BYTES:
        raise InputError(f"{name}: a manifest of {manifest.size_bytes} bytes")
    found: dict[str, tuple[str, bytes]] = {}
    for line in source.read(manifest.offset, manifest.size_bytes).split(b"\n"):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise InputError(f"{name}: its manifest has the malformed line {line[:100]!r}")
        algorithm, file, digest = match.groups()
        if len(digest) != 2 * hashlib.new(_ALGORITHMS[algorithm]).digest_size:
            raise InputError(f"{name}: its manifest has a malformed digest of {file!r}")
        found[file.decode("utf-8", "surrogateescape")] = (
            _ALGORITHMS[algorithm],
            bytes.fromhex(digest.decode()),
        )
    return found


def _check_digest(source: BlockSource, disk: InnerDisk, algorithm: str, stated: bytes, *, name: str) -> None:
    digest = hashlib.new(algorithm)
    for start in range(0, disk.size_bytes, _CHUNK_BYTES):
        length = min(_CHUNK_BYTES, disk.size_bytes - start)
        digest.update(source.read(disk.offset_bytes + start, length))
    if digest.digest() != stated:
        raise InputError(
            f"{name}: {disk.name!r} is not what its manifest says, its {algorithm} digest differs"
        )
