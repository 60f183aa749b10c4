"""Mistakes in bytes, as fuzz runs make them."""

import random
from collections.abc import Sequence


def with_mistakes(draw: random.Random, data: bytes, edges: Sequence[bytes]) -> bytes:
    """Return the bytes with one to four mistakes in them, `edges` among what is put in."""
    out = bytearray(data)
    for _ in range(draw.randrange(1, 5)):
        at = draw.randrange(len(out) + 1)
        what = draw.randrange(6)
        if what == 0 and at < len(out):
            out[at] ^= 1 << draw.randrange(8)
        elif what == 1:
            out[at:at] = draw.choice(edges)
        elif what == 2:
            del out[at : at + draw.randrange(1, 9)]
        elif what == 3:
            out[at:at] = out[draw.randrange(len(out) + 1) :][: draw.randrange(1, 40)]
        elif what == 4:
            del out[at:]
        elif at < len(out):
            out[at] = draw.choice((0, 1, 23, 24, 25, 26, 27, 31, 0x7F, 0x80, 0xFF))
    return bytes(out)
