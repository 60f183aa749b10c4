"""Which subvolume the options of a mount name."""

import re
from collections.abc import Iterable

from undercroft.disks.text import raw
from undercroft.errors import InputError

TOP = 5
_ID = re.compile(r"\+?(?:0[xX][0-9a-fA-F]{1,16}|0[0-7]{0,21}|[1-9][0-9]{0,18})")


def named_subvolume(options: Iterable[str]) -> bytes | int | None:
    """Return what `subvol=` or `subvolid=` name, None where there is neither; the name counts before the id.

    Of several of one kind the last counts, as in the kernel. Raises InputError for an id that is no number.
    """
    path: bytes | None = None
    number: int | None = None
    for option in options:
        key, equals, value = option.partition("=")
        if key == "subvol" and equals:
            path = raw(value).strip(b"/")
        elif key == "subvolid" and equals:
            number = _number(value)
    return number if path is None else path


def _number(untrusted: str) -> int:
    """Return an id as the kernel reads it (kstrtoull): by its beginning hexadecimal, octal or decimal."""
    if not _ID.fullmatch(untrusted):
        raise InputError(f"btrfs subvolid={untrusted[:40]}: it is no number")
    digits = untrusted.lstrip("+")
    base = 10 if digits[0] != "0" else 16 if digits[1:2] in ("x", "X") else 8
    return int(digits, base) or TOP
