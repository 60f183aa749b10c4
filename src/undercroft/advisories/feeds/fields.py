"""Typed access to untrusted JSON objects, and the syntax of the names that records carry.

Unknown members are ignored, so that tomorrow's additions do no harm; a known one of the wrong type raises
`InputError` naming the place.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import cast

from undercroft.errors import InputError
from undercroft.model.finding import Severity
from undercroft.model.schema import Json

MAX_TITLE_CHARS = 300

_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,19}")
_IDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]{0,254}")
_LANGUAGE_PACKAGE = re.compile(r"[A-Za-z0-9@_.-][A-Za-z0-9@/~+._!'()*-]{0,254}")
_VERSION = re.compile(r"[A-Za-z0-9.+:~^!_-]{1,255}")

_SURROGATE = re.compile("[\ud800-\udfff]")


def as_object(value: object, what: str) -> Mapping[str, Json]:
    """Return `value` if it is a JSON object. Raises InputError."""
    if not isinstance(value, dict):
        raise InputError(f"{what}: expected an object, found {type(value).__name__}")
    return cast("Mapping[str, Json]", value)


def as_list(value: object, what: str) -> list[Json]:
    """Return `value` if it is a list; an absent one (None) is empty. Raises InputError."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{what}: expected a list, found {type(value).__name__}")
    return cast("list[Json]", value)


def as_text(value: object, what: str) -> str:
    """Return `value` if it is a text; an absent one (None) is "". Raises InputError."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{what}: expected a text, found {type(value).__name__}")
    return value


def as_objects(value: object, what: str) -> list[Mapping[str, Json]]:
    """Return `value` if it is a list of objects; an absent one is empty. Raises InputError."""
    return [as_object(item, what) for item in as_list(value, what)]


def as_texts(value: object, what: str) -> list[str]:
    """Return `value` if it is a list of texts; an absent one is empty. Raises InputError."""
    return [as_text(item, what) for item in as_list(value, what)]


def ident(value: object, what: str) -> str:
    """Return an advisory's or a vulnerability's id. Raises InputError unless it has the syntax of one."""
    return _matching(_IDENT, value, "an id", what)


def package(value: object, what: str) -> str:
    """Return a package name. Raises InputError unless it has the syntax of one."""
    return _matching(_PACKAGE, value, "a package name", what)


def language_package(value: object, what: str) -> str:
    """Return a package name of a language ("@scope/name", "example.org/module"). Raises InputError."""
    return _matching(_LANGUAGE_PACKAGE, value, "a package name", what)


def version(value: object, what: str) -> str:
    """Return a version. Raises InputError unless it has the syntax of one."""
    return _matching(_VERSION, value, "a version", what)


def cve_number(value: object, what: str) -> str:
    """Return a CVE number. Raises InputError unless it is one."""
    return _matching(_CVE, value, "a CVE number", what)


def is_cve_number(value: str) -> bool:
    """Tell whether `value` is a CVE number."""
    return _CVE.fullmatch(value) is not None


def _matching(pattern: re.Pattern[str], value: object, kind: str, what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise InputError(f"{what}: {_shown(value)} is not {kind}")
    return value


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def moment(value: object, what: str) -> datetime:
    """Return an RFC 3339 date-time, in UTC where it names no zone. Raises InputError."""
    text = as_text(value, what)
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{what}: {_shown(text)} is no date-time") from error


def optional_day(value: object, what: str) -> date | None:
    """Return the day of a date or date-time, None for an absent one. Raises InputError."""
    return None if value is None else moment(value, what).date()


def probability(value: str, what: str) -> float:
    """Return a number of 0 to 1. Raises InputError, also for NaN."""
    try:
        found = float(value)
    except ValueError as error:
        raise InputError(f"{what}: {_shown(value)} is no number") from error
    if not (math.isfinite(found) and 0 <= found <= 1):
        raise InputError(f"{what}: {_shown(value)} is no probability of 0 to 1")
    return found


def title(untrusted_text: str) -> str:
    """Return the first line that is not blank, cut to `MAX_TITLE_CHARS`.

    Control characters stay; lone surrogates, which no output can encode, become U+FFFD.
    """
    start = untrusted_text.lstrip()[: MAX_TITLE_CHARS + 1].split("\n", 1)[0].rstrip()
    line = _SURROGATE.sub("\ufffd", start)
    return line if len(line) <= MAX_TITLE_CHARS else line[: MAX_TITLE_CHARS - 1] + "…"


_SEVERITIES = {
    "critical": Severity.CRITICAL,
    "high": Severity.HIGH,
    "medium": Severity.MEDIUM,
    "low": Severity.LOW,
    "negligible": Severity.NEGLIGIBLE,
    "unimportant": Severity.NEGLIGIBLE,
    "important": Severity.HIGH,  # Red Hat's words, which its rebuilds and SUSE use too
    "moderate": Severity.MEDIUM,
}


def severity_word(word: str) -> Severity:
    """Return the severity that a distribution's own word stands for; UNKNOWN for any other word.

    Debian marks urgencies that a person has not confirmed with asterisks ("medium**"); "not yet
    assigned" and "end-of-life" say nothing of severity.
    """
    return _SEVERITIES.get(word.strip().rstrip("*").lower(), Severity.UNKNOWN)
