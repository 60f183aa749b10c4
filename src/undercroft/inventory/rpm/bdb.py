"""The hash format of Berkeley DB, as rpm's Packages was kept until rpm 4.16.

Guarantees: every bucket's pages are walked once, in both byte orders; what they hold is header bytes or a
problem. Follows Berkeley DB 5.3's src/dbinc/db_page.h and hash.h. The format has no checksums unless it was
asked for them, which rpm does not; the headers' own digests stand in for them.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from undercroft.errors import InputError
from undercroft.inventory.guestfile import GuestFile

MAGIC = 0x00061561
MAX_BUCKETS = 1 << 20
MAX_PAGES = 1 << 20
MAX_ITEM_BYTES = 64 << 20

_META_TYPE, _OVERFLOW = 8, 7
_HASH_TYPES = (2, 13)  # unsorted, sorted
_META_BYTES = 512
_PAGE_HEADER_BYTES = 26
_KEY_DATA, _OFF_PAGE = 1, 3
_CHECKSUM_FLAG = 1


@dataclass(frozen=True, slots=True)
class _Meta:
    order: str
    page_bytes: int
    last_page: int
    max_bucket: int
    spares: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Page:
    number: int
    following: int
    entries: int
    free_offset: int
    kind: int
    data: bytes


def read_blobs(file: GuestFile) -> Iterator[tuple[int, bytes | InputError]]:
    """Yield (package number, header or what is wrong with its pages).

    Raises:
        InputError: the file's first page, or the chain of a bucket is malformed.
    """
    meta = _meta(file)
    seen = set[int]()
    for bucket in range(meta.max_bucket + 1):
        # hash.h, BUCKET_TO_PAGE: the n-th doubling of the table lies behind what had been there before.
        number = bucket + meta.spares[bucket.bit_length()]
        previous = 0
        if number == 0:
            raise InputError(f"rpm bdb: the page of bucket {bucket} is the file's first one")
        while number:
            if number in seen:
                raise InputError(f"rpm bdb page {number}: it stands in two places")
            seen.add(number)
            page = _page(file, meta, number)
            if page.kind == 0 and not previous:
                break  # a bucket of the last doubling that was never written
            if page.kind not in _HASH_TYPES:
                raise InputError(f"rpm bdb page {number}: type {page.kind} in the place of a bucket")
            yield from _items(file, meta, page, seen)
            previous, number = number, page.following


def _meta(file: GuestFile) -> _Meta:
    data = file.read(0, _META_BYTES)
    order = next((order for order in "<>" if struct.unpack_from(f"{order}I", data, 12)[0] == MAGIC), "")
    if not order:
        raise InputError("rpm bdb: the file does not begin as a hash of Berkeley DB does")
    version, page_bytes = struct.unpack_from(f"{order}II", data, 16)
    encryption, kind, flags = data[24:27]
    (last_page,) = struct.unpack_from(f"{order}I", data, 32)
    (max_bucket,) = struct.unpack_from(f"{order}I", data, 72)
    if kind != _META_TYPE or encryption or flags & _CHECKSUM_FLAG:
        raise InputError(f"rpm bdb: type {kind}, encryption {encryption}, flags {flags} are not read")
    if not 512 <= page_bytes <= 65536 or page_bytes & (page_bytes - 1) or not 7 <= version <= 10:
        raise InputError(f"rpm bdb: version {version} with pages of {page_bytes} bytes")
    if (
        max_bucket > min(MAX_BUCKETS, last_page)
        or last_page > MAX_PAGES
        or (last_page + 1) * page_bytes > file.size_bytes
    ):
        raise InputError(f"rpm bdb: {max_bucket} buckets and {last_page} pages in {file.size_bytes} bytes")
    return _Meta(order, page_bytes, last_page, max_bucket, struct.unpack_from(f"{order}32I", data, 96))


def _page(file: GuestFile, meta: _Meta, number: int) -> _Page:
    if number > meta.last_page:
        raise InputError(f"rpm bdb page {number}: the last one is {meta.last_page}")
    data = file.read(number * meta.page_bytes, meta.page_bytes)
    own, _, following, entries, free_offset = struct.unpack_from(f"{meta.order}IIIHH", data, 8)
    kind = data[25]
    if own != number and kind:
        raise InputError(f"rpm bdb page {number}: it calls itself {own}")
    return _Page(number, following, entries, free_offset, kind, data)


def _items(
    file: GuestFile, meta: _Meta, page: _Page, seen: set[int]
) -> Iterator[tuple[int, bytes | InputError]]:
    """Yield what a page's pairs of key and value hold; key 0 is rpm's counter."""
    if page.entries % 2 or _PAGE_HEADER_BYTES + 2 * page.entries > meta.page_bytes:
        raise InputError(f"rpm bdb page {page.number}: {page.entries} entries")
    offsets = struct.unpack_from(f"{meta.order}{page.entries}H", page.data, _PAGE_HEADER_BYTES)
    ends = (meta.page_bytes, *offsets)
    spans = list(zip(offsets, ends, strict=False))
    if any(not _PAGE_HEADER_BYTES + 2 * page.entries <= start < end for start, end in spans):
        raise InputError(f"rpm bdb page {page.number}: an entry lies outside of it")
    items = [page.data[start:end] for start, end in spans]
    for key, value in zip(items[::2], items[1::2], strict=True):
        if key[0] != _KEY_DATA or len(key) != 5:
            raise InputError(f"rpm bdb page {page.number}: a key of type {key[0]} with {len(key) - 1} bytes")
        (number,) = struct.unpack_from(f"{meta.order}I", key, 1)
        if number == 0:
            continue
        try:
            yield number, _value(file, meta, page.number, value, seen)
        except InputError as error:
            yield number, error


def _value(file: GuestFile, meta: _Meta, number: int, item: bytes, seen: set[int]) -> bytes:
    if item[0] == _KEY_DATA:
        return item[1:]
    if item[0] != _OFF_PAGE or len(item) != 12:
        raise InputError(f"rpm bdb page {number}: a value of type {item[0]} with {len(item)} bytes")
    following, size = struct.unpack_from(f"{meta.order}II", item, 4)
    if size > MAX_ITEM_BYTES:
        raise InputError(f"rpm bdb page {number}: a value of {size} bytes, the limit is {MAX_ITEM_BYTES}")
    data = bytearray()
    while len(data) < size:
        page = _page(file, meta, following)
        if page.kind != _OVERFLOW or not 0 < page.free_offset <= meta.page_bytes - _PAGE_HEADER_BYTES:
            raise InputError(
                f"rpm bdb page {following}: type {page.kind} in the place of a value's next page"
            )
        if page.number in seen:
            raise InputError(f"rpm bdb page {page.number}: it stands in two places")
        seen.add(page.number)
        data += page.data[_PAGE_HEADER_BYTES : _PAGE_HEADER_BYTES + page.free_offset]
        following = page.following
    if following or len(data) != size:
        raise InputError(f"rpm bdb page {number}: a value of {len(data)} bytes, not {size}")
    return bytes(data)
