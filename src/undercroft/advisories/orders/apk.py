"""Alpine's version order: `digit{.digit}{letter}{_suffix{number}}{~hash}{-r#}`.

Follows apk-tools 3, src/version.c, and its suite of vectors. What follows an equal beginning decides by its
kind: `_alpha`, `_beta`, `_pre` and `_rc` sort before the end of the version, everything else after it, in
the order revision, hash, number of a suffix, suffix, letter, number. A number after a dot that starts with 0
is compared as text and sorts before those that do not. As in apk-tools 2, a number may follow a letter.

    >>> key("1.2_rc1-r0") < key("1.2-r0") < key("1.2-r1") < key("1.2_p1-r0") < key("1.2a-r0") < key("1.10-r0")
    True

What is no version sorts, from where it stops being one, before the end, and among itself byte by byte: apk
itself calls all such versions equal, which would let a broken version pass for the fixed one.
"""

import re
from functools import lru_cache

from undercroft.advisories.orders.order import check_length, encoded, number
from undercroft.errors import InputError

_PRE_SUFFIXES = (b"alpha", b"beta", b"pre", b"rc")
_POST_SUFFIXES = (b"cvs", b"svn", b"git", b"hg", b"p")
_SUFFIXES = _PRE_SUFFIXES + _POST_SUFFIXES

_NUMBERS = re.compile(rb"([0-9]+)((?:\.[0-9]+)*)")
_LETTER = re.compile(rb"([a-z])([0-9]*(?:\.[0-9]+)*)")
_SUFFIX = re.compile(rb"_([a-z]+)([0-9]*)")
_HASH = re.compile(rb"~([0-9A-Fa-f]+)")
_REVISION = re.compile(rb"-r([0-9]+)")

# Ranks of what may come next at one place, lowest first.
_RANKS = (*_PRE_SUFFIXES, b"broken", b"end", b"revision", b"hash", b"suffix number", *_POST_SUFFIXES)
_RANK = {name: bytes((rank,)) for rank, name in enumerate(_RANKS, start=1)}
_LETTER_RANK, _NUMBER_RANK = bytes((len(_RANKS) + 1,)), bytes((len(_RANKS) + 2,))
_AS_TEXT, _AS_NUMBER = b"\x01", b"\x02"


@lru_cache(maxsize=1 << 16)
def key(version: str) -> bytes:
    """Return bytes that sort as apk sorts `version`."""
    found, rest = _read(encoded(version))
    return found + (_RANK[b"broken"] + rest + b"\x00" if rest else _RANK[b"end"])


def check(untrusted_version: str) -> None:
    """Raise InputError unless apk calls the text a version."""
    check_length(untrusted_version)
    if not untrusted_version or _read(encoded(untrusted_version))[1]:
        raise InputError(f"{untrusted_version!r} is not an Alpine version (1.2.3a_rc1-r0)")


def _read(text: bytes) -> tuple[bytes, bytes]:
    """Return (key of the part that is a version, the rest that is not one)."""
    match = _NUMBERS.match(text)
    if match is None:
        return b"", text
    parts = [number(match[1]), *map(_after_dot, match[2].split(b".")[1:])]
    place = match.end()
    if match := _LETTER.match(text, place):
        parts += [_LETTER_RANK, match[1], *map(_after_dot, filter(None, match[2].split(b".")))]
        place = match.end()
    while (match := _SUFFIX.match(text, place)) and match[1] in _SUFFIXES:
        parts.append(_RANK[match[1]])
        if match[2]:
            parts += [_RANK[b"suffix number"], number(match[2])]
        place = match.end()
    if match := _HASH.match(text, place):
        parts += [_RANK[b"hash"], match[1], b"\x00"]
        place = match.end()
    if match := _REVISION.match(text, place):
        parts += [_RANK[b"revision"], number(match[1])]
        place = match.end()
    return b"".join(parts), text[place:]


def _after_dot(digits: bytes) -> bytes:
    if digits.startswith(b"0"):
        return _NUMBER_RANK + _AS_TEXT + digits + b"\x00"
    return _NUMBER_RANK + _AS_NUMBER + number(digits)
