"""The order of Windows builds, and of any other numbers with dots: part by part, as numbers.

>>> key("10.0.20348.887") < key("10.0.20348.2113") < key("10.0.20348.2113.1")
True
"""

import re
from functools import lru_cache

from undercroft.advisories.orders.order import check_length, encoded, number
from undercroft.errors import InputError

_BUILD = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,10}){0,5}")
_END, _TEXT, _NUMBER = b"\x00", b"\x01", b"\x02"


@lru_cache(maxsize=1 << 12)
def key(version: str) -> bytes:
    """Return bytes that sort as builds do; a part that is no number sorts before those that are."""
    parts = encoded(version).split(b".")
    return b"".join(map(_part, parts)) + _END


def check(untrusted_version: str) -> None:
    """Raise InputError unless the text is numbers with dots between them."""
    check_length(untrusted_version)
    if not _BUILD.fullmatch(untrusted_version):
        raise InputError(f"{untrusted_version!r} is not a build (10.0.20348.2113)")


def _part(text: bytes) -> bytes:
    return _NUMBER + number(text) if text.isdigit() else _TEXT + text.replace(b"\x00", b"\x01") + b"\x00"
