"""Counts, sizes, times and lists in words, the same in every report."""

from collections.abc import Hashable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from undercroft.model.finding import FixState

Key = TypeVar("Key", bound=Hashable)

WITHOUT_FIX = {
    FixState.UNFIXED: "no fix yet",
    FixState.UNDER_INVESTIGATION: "under investigation by its publisher",
    FixState.WILL_NOT_FIX: "will not be fixed by its publisher",
    FixState.OUT_OF_SUPPORT: "out of its publisher's support",
}
"""What is said of a finding for which no version can be had."""

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_LAST_SECOND = 253_402_300_799  # 9999-12-31, the last that datetime can hold


def count(number: int, one: str, many: str = "") -> str:
    """Return "1 package" or "2 packages"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(size_bytes: int) -> str:
    """Return a size in binary units with one decimal: "2.0 GiB"."""
    value, unit = float(size_bytes), "bytes"
    for larger in _UNITS:
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{size_bytes} bytes" if unit == "bytes" else f"{value:.1f} {unit}"


def age(seconds: float) -> str:
    """Return a span of time in its largest unit: "3 h"; what lies in the future is "0 min"."""
    minutes = max(int(seconds // 60), 0)
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"


def moment(seconds: int, *, day_only: bool = False) -> str:
    """Return seconds since the epoch as a UTC time; "?" beyond the calendar: an image may claim any."""
    if not 0 <= seconds <= _LAST_SECOND:
        return "?"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d" if day_only else "%Y-%m-%d %H:%M")


def minute(at: datetime | None) -> str:
    """Return a time to the minute in UTC, "?" for none."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M") if at else "?"


def listed(items: Sequence[str], limit: int | None = None) -> str:
    """Return the items with commas; past `limit` only how many more there are."""
    if limit is None or len(items) <= limit + 1:  # "and 1 more" is no shorter than the item
        return ", ".join(items)
    return f"{', '.join(items[:limit])} and {len(items) - limit:,} more"


def grouped(pairs: Iterable[tuple[str, Key]]) -> list[tuple[Key, list[str]]]:
    """Return each distinct value once with the names that have it, in order of first appearance."""
    groups: dict[Key, list[str]] = {}
    for name, value in pairs:
        groups.setdefault(value, []).append(name)
    return list(groups.items())
