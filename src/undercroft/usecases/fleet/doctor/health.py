"""What a look at one thing of the host found."""

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """What a check says. WARN: it works, with less than it could. UNKNOWN: it could not be looked at."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        health: how it is.
        found: what was found, one sentence.
        cure: what to do, a command where there is one; "" where nothing is to be done.
    """

    name: str
    health: Health
    found: str
    cure: str = ""
