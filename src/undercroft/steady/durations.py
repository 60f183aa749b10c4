"""Spans of time as a policy writes them: "30m", "24h", "7d", "2w"."""

import re
from datetime import timedelta

from undercroft.errors import InputError

MAX_DAYS = 3660
"""Ten years: what is longer is a mistake."""
EXAMPLES = "30m, 24h, 7d or 2w"

_DURATION = re.compile(r"([0-9]{1,7})([mhdw])")
_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def parse(text: str) -> timedelta:
    """Return the span that `text` says. Raises InputError for another form, or more than ten years."""
    found = _DURATION.fullmatch(text)
    if found is None:
        raise InputError(f"a whole number with its unit is possible, such as {EXAMPLES}")
    span = int(found[1]) * _UNITS[found[2]]
    if span > timedelta(days=MAX_DAYS):
        raise InputError(f"at most {MAX_DAYS}d is possible")
    return span


def words(span: timedelta) -> str:
    """Return a span of time in its largest unit, rounded down: "3 days"; a negative one is "0 minutes"."""
    minutes = max(int(span.total_seconds() // 60), 0)
    for size, unit in ((1440, "day"), (60, "hour")):
        if minutes >= 2 * size or (minutes >= size and minutes % size == 0):
            count = minutes // size
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{minutes} minute{'' if minutes == 1 else 's'}"
