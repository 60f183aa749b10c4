"""Semantic versions, as npm, Go and crates.io have them.

Follows semver.org 2.0.0, section 11. Tolerated beyond it: a leading "v" (Go), fewer or more than three
numbers; build metadata counts for nothing. What is no such version sorts below all that are, so that it
counts as affected.

    >>> key("1.0.0-alpha.1") < key("1.0.0-alpha.beta") < key("1.0.0-rc.1") < key("v1.0.0") < key("1.0.1")
    True
"""

import re
from functools import lru_cache

from undercroft.advisories.orders.order import check_length, encoded, number
from undercroft.errors import InputError

_VERSION = re.compile(rb"[vV=]?([0-9]+(?:\.[0-9]+)*)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.+-]*)?")
_BROKEN, _VALID = b"\x00", b"\x01"
_PRE, _RELEASE, _NUMBER = b"\x00", b"\x01", b"\x02"
_END, _DIGITS, _TEXT = b"\x00", b"\x01", b"\x02"


@lru_cache(maxsize=1 << 16)
def key(version: str) -> bytes:
    """Return bytes that sort as semantic versions do; "1.2" and "1.2.0" are equal."""
    text = encoded(version)
    match = _VERSION.fullmatch(text)
    if match is None:
        return _BROKEN + text
    numbers = [part.lstrip(b"0") for part in match[1].split(b".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    core = _VALID + b"".join([_NUMBER + number(part) for part in numbers])
    if match[2] is None:
        return core + _RELEASE
    return core + _PRE + b"".join(map(_identifier, match[2].split(b"."))) + _END


def check(untrusted_version: str) -> None:
    """Raise InputError unless the text is a semantic version, or one of the tolerated forms."""
    check_length(untrusted_version)
    if not _VERSION.fullmatch(encoded(untrusted_version)):
        raise InputError(f"{untrusted_version!r} is not a semantic version (1.2.3-rc.1)")


def _identifier(text: bytes) -> bytes:
    return _DIGITS + number(text) if text.isdigit() else _TEXT + text + _END
