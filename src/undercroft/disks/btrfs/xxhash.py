"""XXH64 with seed 0, as its specification gives it ("xxHash fast digest algorithm", XXH64).

Few filesystems use it, and 20 MB/s are enough for their metadata and package databases.
"""

from struct import Struct

_P1, _P2, _P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
_P4, _P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5
_M = (1 << 64) - 1
_LANES = Struct("<4Q")


def xxhash64(data: bytes) -> int:
    """Return the 64-bit hash of `data`."""
    length = len(data)
    whole = length & ~31
    value = _stripes(data[:whole]) if whole else _P5
    value = value + length & _M
    position = whole
    while position + 8 <= length:
        lane = int.from_bytes(data[position : position + 8], "little") * _P2 & _M
        value ^= ((lane << 31 | lane >> 33) & _M) * _P1 & _M
        value = ((value << 27 | value >> 37) & _M) * _P1 + _P4 & _M
        position += 8
    if position + 4 <= length:
        value ^= int.from_bytes(data[position : position + 4], "little") * _P1 & _M
        value = ((value << 23 | value >> 41) & _M) * _P2 + _P3 & _M
        position += 4
    for byte in data[position:]:
        value ^= byte * _P5 & _M
        value = ((value << 11 | value >> 53) & _M) * _P1 & _M
    value = (value ^ value >> 33) * _P2 & _M
    value = (value ^ value >> 29) * _P3 & _M
    return value ^ value >> 32


def _stripes(data: bytes) -> int:
    one, two, three, four = (_P1 + _P2) & _M, _P2, 0, -_P1 & _M
    for lane_1, lane_2, lane_3, lane_4 in _LANES.iter_unpack(data):
        one = one + lane_1 * _P2 & _M
        one = ((one << 31 | one >> 33) & _M) * _P1 & _M
        two = two + lane_2 * _P2 & _M
        two = ((two << 31 | two >> 33) & _M) * _P1 & _M
        three = three + lane_3 * _P2 & _M
        three = ((three << 31 | three >> 33) & _M) * _P1 & _M
        four = four + lane_4 * _P2 & _M
        four = ((four << 31 | four >> 33) & _M) * _P1 & _M
    value = (
        ((one << 1 | one >> 63) & _M)
        + ((two << 7 | two >> 57) & _M)
        + ((three << 12 | three >> 52) & _M)
        + ((four << 18 | four >> 46) & _M)
    ) & _M
    for lane in (one, two, three, four):
        mixed = lane * _P2 & _M
        value ^= ((mixed << 31 | mixed >> 33) & _M) * _P1 & _M
        value = value * _P1 + _P4 & _M
    return value
