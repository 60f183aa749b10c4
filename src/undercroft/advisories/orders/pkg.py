"""FreeBSD's version order: `version[_revision][,epoch]`, as `pkg version -t` has it.

Follows pkg's own rules (libpkg/pkg_version.c, whose comments are their specification). Epoch comes first,
then the version, then the revision. A version's components are numbers with a letter and a patch level
("10b2"), between dots or whatever else is neither letter nor digit; missing ones are 0. A component without a
number sorts below 0, so that "10.a" is older than 10; so do "pl", "alpha", "beta", "pre" and "rc" right after
a number, in this order. Of other words the first letter counts, in either case. `*` is below everything. What
a `+` divides is compared part by part.

    >>> key("1.pl1") < key("1alpha3") < key("1.rc1") < key("1") < key("1_1") < key("1a") < key("0,1")
    True
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from undercroft.advisories.orders.order import check_length, encoded, number
from undercroft.errors import InputError

_VERSION = re.compile(r"[0-9A-Za-z.+*:~]+(?:_[0-9]{1,10})?(?:,[0-9]{1,10})?")
_STAGES = {b"pl": 0, b"alpha": 1, b"beta": 2, b"pre": 16, b"rc": 18}
_STAGE = re.compile(rb"(?i)(pl|alpha|beta|pre|rc)(?![A-Za-z])")
_WORD = re.compile(rb"[A-Za-z]+")
_DIGITS = re.compile(rb"[0-9]+")
_SEPARATORS = re.compile(rb"[^0-9A-Za-z+*]*")

_LESS, _END, _MORE = b"\x01", b"\x02", b"\x03"
_LOWEST, _WITHOUT_NUMBER, _NUMBER = b"\x00", b"\x01", b"\x02"
_NO_LEVEL, _LEVEL = b"\x00", b"\x01"
_INVERTED = bytes(255 - byte for byte in range(256))

_Signed = tuple[int, bytes]
"""Whether a part is below (-1), like (0) or above (1) a missing one, and the bytes that sort it."""


@lru_cache(maxsize=1 << 16)
def key(version: str) -> bytes:
    """Return bytes that sort as pkg sorts `version`; "10" and "10.0" have equal keys."""
    text, revision, epoch = _framed(encoded(version))
    parts = [_components(part) for part in text.split(b"+")]
    return number(epoch) + _sequence(map(_part, parts)) + number(revision)


def check(untrusted_version: str) -> None:
    """Raise InputError unless the text is a version of the ports' forms."""
    check_length(untrusted_version)
    if not _VERSION.fullmatch(untrusted_version):
        raise InputError(f"{untrusted_version!r} is not a FreeBSD version (version[_revision][,epoch])")


def _framed(text: bytes) -> tuple[bytes, bytes, bytes]:
    """Return (version, revision, epoch), told apart by the last underscore and the last comma behind it."""
    head, underscore, tail = text.rpartition(b"_")
    if underscore:
        _, _, epoch = tail.rpartition(b",") if b"," in tail else (b"", b"", b"")
        return head, _leading(tail), _leading(epoch)
    head, comma, epoch = text.rpartition(b",")
    return (head, b"", _leading(epoch)) if comma else (text, b"", b"")


def _leading(text: bytes) -> bytes:
    match = _DIGITS.match(text)
    return match[0] if match else b""


def _components(text: bytes) -> list[_Signed]:
    found = []
    place = 0
    while place < len(text):
        component, place = _component(text, place)
        found.append(component)
        match = _SEPARATORS.match(text, place)
        place = match.end() if match else place
    return found


def _component(text: bytes, place: int) -> tuple[_Signed, int]:
    """Return the component that begins at `place`, and where it ends."""
    if text[place : place + 1] == b"*":
        return (-1, _LOWEST), len(text)
    digits = _DIGITS.match(text, place)
    if digits:
        place = digits.end()
    letter, level, word = 0, b"0", None
    if stage := _STAGE.match(text, place):
        if digits:  # it is a component of its own
            return _signed(digits[0], 0, b"0"), place
        letter, place = _STAGES[stage[1].lower()], stage.end()
    elif word := _WORD.match(text, place):
        letter, place = word[0].lower()[0] - ord("a") + 1, word.end()
    if stage or word:
        patch = _DIGITS.match(text, place)
        level, place = (patch[0], patch.end()) if patch else (b"", place)
    return _signed(digits[0] if digits else b"", letter, level), place


def _signed(digits: bytes, letter: int, level: bytes) -> _Signed:
    patch = _LEVEL + number(level) if level else _NO_LEVEL
    if not digits:
        return -1, _WITHOUT_NUMBER + bytes((letter,)) + patch
    return int(bool(digits.strip(b"0") or letter)), _NUMBER + number(digits) + bytes((letter,)) + patch


def _part(components: list[_Signed]) -> _Signed:
    sign = next((sign for sign, _ in components if sign), 0)
    return sign, _sequence(components)


def _sequence(parts: Iterable[_Signed]) -> bytes:
    """Return what sorts a sequence after which nothing but missing parts come, as many as there have to be.

    Before each part that counts stands how many come before it that do not: the fewer, the further it is from
    a sequence that has ended, below or above it.
    """
    found = []
    missing = 0
    for sign, data in parts:
        if not sign:
            missing += 1
            continue
        count = number(b"%d" % missing)
        found.append(_LESS + count if sign < 0 else _MORE + count.translate(_INVERTED))
        found.append(data)
        missing = 0
    return b"".join(found) + _END
