"""The names of the rules, in the order in which they answer, and words that they share."""

from collections.abc import Sequence

KNOWN_EXPLOITED = "known-exploited"
FIXABLE = "fixable"
SEVERITY = "severity"
END_OF_LIFE = "end-of-life"
SCANNED = "scanned"
COVERAGE = "coverage"
ADVISORIES = "advisories"
FLOOR = "floor"
GENID = "genid"
OWNERSHIP = "ownership"
EXPIRY = "expiry"
TEMPLATE = "template"
ENFORCEABLE = "enforceable"
QUARANTINE = "quarantine"

EXCEPTABLE = (
    KNOWN_EXPLOITED,
    FIXABLE,
    SEVERITY,
    END_OF_LIFE,
    SCANNED,
    COVERAGE,
    ADVISORIES,
    FLOOR,
    GENID,
    OWNERSHIP,
    EXPIRY,
    TEMPLATE,
)
"""Rules that an exception may name."""

RULES = (*EXCEPTABLE, ENFORCEABLE, QUARANTINE)
"""All of them; the last two follow from the others and from what is done already."""

_LISTED = 3


def listed(items: Sequence[str]) -> str:
    """Return a few items with commas, and how many more there are."""
    if len(items) <= _LISTED + 1:
        return ", ".join(items)
    return f"{', '.join(items[:_LISTED])} and {len(items) - _LISTED:,} more"


def count(number: int, one: str, many: str = "") -> str:
    """Return "1 finding" or "2 findings"."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
