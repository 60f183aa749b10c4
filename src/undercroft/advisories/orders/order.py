"""What an order of versions offers, and how its keys are put together."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from undercroft.errors import InputError

MAX_VERSION_CHARS = 1024


@dataclass(frozen=True, slots=True)
class Order:
    """How one package manager compares versions.

    Attributes:
        name: "deb", "rpm", "apk", ...
        key: bytes that sort as the manager sorts the version; equal versions have equal keys. Takes any text.
        check: raises InputError unless the text is a version by the manager's own syntax.
    """

    name: str
    key: Callable[[str], bytes]
    check: Callable[[str], None]

    def compare(self, a: str, b: str) -> int:
        """Return -1, 0 or 1 as `a` is older than, equal to or newer than `b`."""
        key_a, key_b = self.key(a), self.key(b)
        return (key_a > key_b) - (key_a < key_b)


def encoded(version: str) -> bytes:
    """Return the bytes of an untrusted text; what could not be decoded arrives as surrogates and stays."""
    return version.encode("utf-8", "surrogatepass")


_EPOCH = re.compile(rb"([0-9]*):")
_NO_RELEASE, _RELEASE = b"\x00", b"\x01"


def epoch_version_release(version: str, part: Callable[[bytes], bytes]) -> bytes:
    """Return what sorts `[epoch:]version[-release]`: a missing epoch is 0, a missing release before any.

    Args:
        version: any text.
        part: returns what sorts a version or a release by itself; no result is the beginning of another.
    """
    text = encoded(version)
    epoch = _EPOCH.match(text)
    if epoch is not None:
        text = text[epoch.end() :]
    upstream, dash, release = text.rpartition(b"-") if b"-" in text else (text, b"", b"")
    tail = _RELEASE + part(release) if dash else _NO_RELEASE
    return number(epoch[1] if epoch else b"") + part(upstream) + tail


def number(digits: bytes) -> bytes:
    """Return digits without leading zeros after their count, so that longer numbers sort higher."""
    digits = digits.lstrip(b"0")
    return b"\xff" * (len(digits) // 255) + bytes((len(digits) % 255,)) + digits


def check_length(untrusted_version: str) -> None:
    """Raise InputError unless the text is at most `MAX_VERSION_CHARS` long."""
    if len(untrusted_version) > MAX_VERSION_CHARS:
        raise InputError(
            f"a version of {len(untrusted_version)} characters, the limit is {MAX_VERSION_CHARS}: "
            f"{untrusted_version[:40]!r}..."
        )
