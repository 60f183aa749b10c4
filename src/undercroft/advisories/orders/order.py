"""What an order of versions offers, and how its keys are put together."""

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
