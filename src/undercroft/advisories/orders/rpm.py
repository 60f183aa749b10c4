"""rpm's version order: `epoch:version-release`.

Follows rpm 4.18, rpmio/rpmvercmp.c and rpmver.c. In version and release, runs of digits and of letters are
compared one by one; everything else only separates them. `~` sorts before the end of a part, the end before
`^`, that before letters, letters before digits. A missing epoch is 0; a missing release sorts before any.

    >>> key("1.0~rc1-1") < key("1.0-1") < key("1.0^git1-1") < key("1.0.1-1") < key("1:0.9-1")
    True
"""

import re
from functools import lru_cache

from undercroft.advisories.orders.order import check_length, epoch_version_release, number
from undercroft.errors import InputError

MAX_EPOCH = 2**32 - 1  # rpm keeps it in 32 bits

_TOKEN = re.compile(rb"(~)|(\^)|([A-Za-z]+)|([0-9]+)")
_VERSION = re.compile(r"(?:([0-9]{1,10}):)?[A-Za-z0-9._+~^]+(?:-[A-Za-z0-9._+~^]+)?")

_TILDE, _END, _CARET, _LETTERS, _DIGITS = (bytes((rank,)) for rank in range(1, 6))


@lru_cache(maxsize=1 << 16)
def key(version: str) -> bytes:
    """Return bytes that sort as rpm sorts `version`; equal versions ("1.0-1", "0:1.0-01") have equal keys."""
    return epoch_version_release(version, _part)


def check(untrusted_version: str) -> None:
    """Raise InputError unless the text is [epoch:]version[-release] in rpm's characters."""
    check_length(untrusted_version)
    match = _VERSION.fullmatch(untrusted_version)
    if match is None or int(match[1] or 0) > MAX_EPOCH:
        raise InputError(f"{untrusted_version!r} is not an rpm version ([epoch:]version[-release])")


def _part(text: bytes) -> bytes:
    return b"".join([_token(match) for match in _TOKEN.finditer(text)]) + _END


def _token(match: re.Match[bytes]) -> bytes:
    tilde, caret, letters, digits = match.groups()
    if digits:
        return _DIGITS + number(digits)
    if letters:
        return _LETTERS + letters + b"\x00"  # as strcmp: what is shorter sorts first
    return _TILDE if tilde else _CARET if caret else b""
