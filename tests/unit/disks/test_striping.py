"""Devices in pieces on others: what is computed anew costs what its own members cost, not theirs again."""

import pytest

from undercroft.disks.source import BytesSource
from undercroft.disks.striping import LEFT_SYMMETRIC, MAX_REBUILDS, ParitySource
from undercroft.errors import InputError

MEMBERS, CHUNK, CHUNKS = 5, 512, 64


class Counted(BytesSource):
    """Counts its reads."""

    reads = 0

    def read(self, offset: int, length: int) -> bytes:
        Counted.reads += 1
        return super().read(offset, length)


def nested(depth: int) -> ParitySource:
    """Return RAID 5 on RAID 5, each without its first member, as a guest may describe it."""
    part = Counted(bytes(CHUNK * CHUNKS)) if depth == 1 else nested(depth - 1)
    parts = [None, *[part] * (MEMBERS - 1)]
    size = part.size_bytes // CHUNK * CHUNK * (MEMBERS - 1)
    return ParitySource(parts, CHUNK, LEFT_SYMMETRIC, size, f"level {depth}")


def test_parity_on_parity_without_members_is_read_two_deep() -> None:
    Counted.reads = 0
    assert nested(MAX_REBUILDS).read(0, CHUNK) == bytes(CHUNK)
    assert Counted.reads <= (MEMBERS - 1) ** MAX_REBUILDS


def test_deeper_ones_are_refused_and_cost_no_more() -> None:
    deep = nested(9)
    Counted.reads = 0
    with pytest.raises(InputError, match="computed from parity that is itself computed, 2 deep"):
        deep.read(0, CHUNK)
    assert Counted.reads < (MEMBERS - 1) ** MAX_REBUILDS
    with pytest.raises(InputError):
        nested(1).read(1 << 40, 1)
    assert nested(1).read(0, CHUNK) == bytes(CHUNK)
