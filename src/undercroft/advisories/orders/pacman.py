"""Arch's version order: `[epoch:]version[-release]`, as `vercmp` has it.

Follows pacman 6, lib/libalpm/version.c. Runs of digits and of letters are compared one by one; where one
version ends, letters that follow at once ("1.0rc1") sort before the end and everything else after it; of
two that go on after separators, fewer separators sort first, then letters, the end, digits.

    >>> key("1.0rc1-1") < key("1.0-1") < key("1.0.rc1-1") < key("1.0.1-1") < key("1:0.9-1")
    True

Two liberties make the order total, which vercmp's is not: a version without release sorts before the same
with one (vercmp calls them equal), and separators at the end of a version count by their number.
"""

import re
from functools import lru_cache

from undercroft.advisories.orders.order import check_length, epoch_version_release, number
from undercroft.errors import InputError

_TOKEN = re.compile(rb"([^A-Za-z0-9]*)([A-Za-z]+|[0-9]+|$)")
_VERSION = re.compile(r"(?:[0-9]+:)?[!-,.0-9;-~]+(?:-[0-9]+(?:\.[0-9]+)?)?")

_LETTERS, _END, _DIGITS, _SEPARATED = (bytes((rank,)) for rank in range(1, 5))


@lru_cache(maxsize=1 << 16)
def key(version: str) -> bytes:
    """Return bytes that sort as vercmp sorts `version`."""
    return epoch_version_release(version, _part)


def check(untrusted_version: str) -> None:
    """Raise InputError unless the text is a version by PKGBUILD(5): no hyphen, colon or space in `pkgver`."""
    check_length(untrusted_version)
    if not _VERSION.fullmatch(untrusted_version):
        raise InputError(f"{untrusted_version!r} is not a pacman version ([epoch:]version[-release])")


def _part(text: bytes) -> bytes:
    parts = []
    place = 0
    while match := _TOKEN.match(text, place):
        separators, run = match.groups()
        place = match.end()
        if separators:
            parts += [_SEPARATED, number(b"%d" % len(separators))]
        if not run:
            break
        parts.append(_DIGITS + number(run) if run[:1].isdigit() else _LETTERS + run + b"\x00")
    return b"".join(parts) + _END
