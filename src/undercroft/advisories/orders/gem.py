"""Ruby's version order, as RubyGems has it.

Follows `Gem::Version#<=>`: runs of digits and of letters are the segments, wherever the dots are; a segment
of letters makes a prerelease and sorts below any number and below the end; zeros at the end of the numbers
count for nothing; a hyphen stands for ".pre.". What is no version sorts as its segments do.

    >>> key("1.0.a.2") < key("1.0.b") < key("1.0.0") < key("1.0.1") < key("1.10")
    True
"""

import re
from functools import lru_cache

from undercroft.advisories.orders.order import check_length, encoded, number
from undercroft.errors import InputError

_SEGMENT = re.compile(rb"[0-9]+|[A-Za-z]+")
_VERSION = re.compile(r"[0-9]+(?:\.[0-9A-Za-z]+)*(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?")
_LETTERS, _END, _DIGITS = b"\x01", b"\x02", b"\x03"


@lru_cache(maxsize=1 << 12)
def key(version: str) -> bytes:
    """Return bytes that sort as RubyGems sorts `version`; "1.0" and "1" are equal."""
    segments = _SEGMENT.findall(encoded(version).replace(b"-", b".pre."))
    first = next((place for place, text in enumerate(segments) if not text.isdigit()), len(segments))
    kept = _without_zeros(segments[:first]) + _without_zeros(segments[first:])
    return b"".join(map(_segment, kept)) + _END


def check(untrusted_version: str) -> None:
    """Raise InputError unless RubyGems calls the text a version."""
    check_length(untrusted_version)
    if not _VERSION.fullmatch(untrusted_version):
        raise InputError(f"{untrusted_version!r} is not a gem's version (1.2.3.rc1)")


def _without_zeros(segments: list[bytes]) -> list[bytes]:
    kept = list(segments)
    while kept and not kept[-1].strip(b"0"):
        kept.pop()
    return kept


def _segment(text: bytes) -> bytes:
    return _DIGITS + number(text) if text.isdigit() else _LETTERS + text + b"\x00"
