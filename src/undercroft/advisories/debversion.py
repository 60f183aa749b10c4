"""Debian's version order, exactly as dpkg has it.

Follows deb-version(7) and dpkg's `parseversion` and `verrevcmp`: epoch, upstream version, revision; in
each part runs of non-digits and of digits take turns; `~` sorts before the end of a part, the end before
letters, letters before everything else; a missing epoch or revision equals 0.

`key` turns a version into bytes whose plain order is that order, so that Python and SQLite (memcmp of
BLOBs) compare alike:

    >>> key("1.0~rc1") < key("1.0") < key("1.0+deb12u1")
    True

The order is total: whatever dpkg refuses to parse still has one place in it. Whether a text is a version
at all is for `check` to say.
"""

import re
from functools import lru_cache

from undercroft.errors import InputError

MAX_VERSION_CHARS = 1024
MAX_EPOCH = 2**31 - 1  # dpkg keeps it in an int

_EPOCH = re.compile(rb"\+?([0-9]+):")
_VERSION = re.compile(r"(?:([0-9]+):)?([0-9][A-Za-z0-9.+~:-]*?)(?:-([A-Za-z0-9.+~]+))?")
_RUN = re.compile(rb"([^0-9]*)([0-9]*)")


def _ranks() -> bytes:
    """Return the rank of each byte: tilde, (end), letters, bytes beyond ASCII, the other ASCII ones."""
    ascii_letters = [byte for byte in range(128) if chr(byte).isalpha()]
    others = [byte for byte in range(128) if not chr(byte).isalnum() and chr(byte) != "~"]
    table = bytearray(256)
    table[ord("~")] = 1
    for rank, byte in enumerate([*ascii_letters, *range(128, 256), *others], start=_END[0] + 1):
        table[byte] = rank
    return bytes(table)


_END = b"\x02"
_RANKS = _ranks()


def check(untrusted_version: str) -> None:
    """Raise InputError unless the text is a version by deb-version(7), at most `MAX_VERSION_CHARS` long."""
    if len(untrusted_version) > MAX_VERSION_CHARS:
        raise InputError(
            f"a version of {len(untrusted_version)} characters, the limit is {MAX_VERSION_CHARS}: "
            f"{untrusted_version[:40]!r}..."
        )
    match = _VERSION.fullmatch(untrusted_version)
    valid = match is not None and (
        int(match[1] or 0) <= MAX_EPOCH
        and (match[1] is not None or ":" not in match[2])
        and (match[3] is not None or "-" not in match[2])
    )
    if not valid:
        raise InputError(f"{untrusted_version!r} is not a Debian version ([epoch:]upstream[-revision])")


@lru_cache(maxsize=1 << 16)
def key(version: str) -> bytes:
    """Return bytes that sort as dpkg sorts `version`; equal versions ("1.0", "0:1.0-0") have equal keys."""
    # Undecodable bytes arrive as surrogates; they only need some fixed place.
    text = version.strip(" \t").encode("utf-8", "surrogatepass")
    epoch = _EPOCH.match(text)
    if epoch is not None:
        text = text[epoch.end() :]
    upstream, _, revision = text.rpartition(b"-") if b"-" in text else (text, b"", b"")
    return _number(epoch[1] if epoch else b"") + _part(upstream) + _part(revision)


def compare(a: str, b: str) -> int:
    """Return -1, 0 or 1 as `a` is older than, equal to or newer than `b`."""
    key_a, key_b = key(a), key(b)
    return (key_a > key_b) - (key_a < key_b)


def _part(text: bytes) -> bytes:
    """Return the sorting bytes of an upstream version or a revision.

    Each run of non-digits ends with `_END`; a run is empty only at the start and at the end of the part,
    so no part is a prefix of another, and parts can be joined.
    """
    runs = _RUN.findall(text)[:-1] or [(b"", b"")]  # the last match is always the empty one at the end
    return b"".join([other.translate(_RANKS) + _END + _number(digits) for other, digits in runs]) + _END


def _number(digits: bytes) -> bytes:
    """Return digits without leading zeros after their count, so that longer numbers sort higher."""
    digits = digits.lstrip(b"0")
    return b"\xff" * (len(digits) // 255) + bytes((len(digits) % 255,)) + digits
