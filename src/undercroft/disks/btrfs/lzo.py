"""LZO1X, and the frame that btrfs puts around it.

Guarantees: any bytes give output of at most the limit, or ValueError. Source: the kernel's
Documentation/staging/lzo.rst; the frame follows fs/btrfs/lzo.c: a length of all, then segments, each with its
length and at most a sector of output; a length never crosses the end of a sector.
"""

_END_DISTANCE = 16384
_FAR = 2049


def decompress_frame(packed: bytes, limit: int, sector_bytes: int) -> bytes:
    """Return what a compressed extent holds, at most `limit` bytes. Raises ValueError."""
    total = int.from_bytes(packed[:4], "little")
    if not 4 <= total <= len(packed):
        raise ValueError(f"an LZO frame of {total} bytes in {len(packed)}")
    most = sector_bytes + sector_bytes // 16 + 69
    found = bytearray()
    position = 4
    while position < total and len(found) < limit:
        size = int.from_bytes(packed[position : position + 4], "little")
        position += 4
        if not 0 < size <= most or position + size > total:
            raise ValueError(f"an LZO segment of {size} bytes at {position}")
        found += decompress(packed[position : position + size], sector_bytes)
        position += size
        left = -position % sector_bytes
        if left < 4:
            position += left
    return bytes(found[:limit])


def decompress(packed: bytes, limit: int) -> bytes:
    """Return the output of one LZO1X stream, at most `limit` bytes. Raises ValueError."""
    try:
        return _decompress(packed, limit)
    except IndexError:
        raise ValueError("an LZO stream ends before its end") from None


def _decompress(packed: bytes, limit: int) -> bytes:  # noqa: PLR0912, PLR0915 - one state machine, as the format has it
    out = bytearray()
    position = 0
    state = 0
    first = packed[0]
    if first > 17:
        state = min(first - 17, 4)
        position = 1 + first - 17
        out += packed[1:position]
    while True:
        code = packed[position]
        position += 1
        if code >= 64:
            distance = (packed[position] << 3) + (code >> 2 & 7) + 1
            length = (code >> 5) + 1
            position += 1
            state = code & 3
        elif code >= 16:
            if code >= 32:
                length, distance, bits = code & 31, 1, 31
            else:
                length, distance, bits = code & 7, _END_DISTANCE + ((code & 8) << 11), 7
            if not length:
                length, position = _long(packed, position, bits)
            length += 2
            low = packed[position]
            distance += (packed[position + 1] << 8 | low) >> 2
            position += 2
            if code < 32 and distance == _END_DISTANCE:
                break
            state = low & 3
        elif not state:
            length = code
            if not length:
                length, position = _long(packed, position, 15)
            length += 3
            _literals(out, packed, position, length, limit)
            position += length
            state = 4
            continue
        else:
            distance = (packed[position] << 2) + (code >> 2)
            position += 1
            if state == 4:
                length, distance = 3, distance + _FAR
            else:
                length, distance = 2, distance + 1
            state = code & 3
        start = len(out) - distance
        if start < 0 or len(out) + length > limit:
            raise ValueError(f"an LZO match of {length} bytes, {distance} back at {len(out)}")
        if distance >= length:
            out += out[start : start + length]
        else:
            out += (out[start:] * (length // distance + 1))[:length]
        if state:
            _literals(out, packed, position, state, limit)
            position += state
    return bytes(out)


def _literals(out: bytearray, packed: bytes, position: int, length: int, limit: int) -> None:
    if position + length > len(packed) or len(out) + length > limit:
        raise ValueError(f"{length} LZO literals at {position}")
    out += packed[position : position + length]


def _long(packed: bytes, position: int, base: int) -> tuple[int, int]:
    """Return a length that does not fit its instruction, and the position behind it."""
    length = base
    while not packed[position]:
        length += 255
        position += 1
    return length + packed[position], position + 1
