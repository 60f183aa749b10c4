"""What was known on a day in the past.

Only records dated on or before that day count; an undated record might be younger, so it never answers,
and those that would have matched are counted for a problem. A feed can answer for a day when it was not
stale at the end of that day: an edition published later holds all that came before it, one published
earlier is judged by its age then, as it would be today.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time
from typing import TypeVar

from undercroft.advisories.knowledge import Knowledge
from undercroft.advisories.records import Advisory

Value = TypeVar("Value")


def moment(now: datetime, as_of: date | None) -> datetime:
    """Return the time for which feeds are judged stale: `now`, or the end of an earlier day `as_of`."""
    if as_of is None:
        return now
    return min(now, datetime.combine(as_of, time.max, UTC))


def limited(knowledge: Knowledge, as_of: date | None) -> Knowledge:
    """Return `knowledge` without what is undated or younger than `as_of`; all of it for None.

    Package indexes and changelogs stay: `history` reads the day from the changelogs.
    """
    if as_of is None:
        return knowledge
    return replace(
        knowledge,
        advisories=_kept(knowledge.advisories, lambda record: _dated(record.published_on, as_of)),
        vulnerabilities=_kept(knowledge.vulnerabilities, lambda record: _dated(record.published_on, as_of)),
        known_exploited={
            name: record for name, record in knowledge.known_exploited.items() if record.added_on <= as_of
        },
        exploit_probabilities={
            name: record
            for name, record in knowledge.exploit_probabilities.items()
            if record.scored_on <= as_of
        },
        vex=tuple(record for record in knowledge.vex if record.timestamp.date() <= as_of),
        beside=tuple(limited(other, as_of) for other in knowledge.beside),
    )


def undated(knowledge: Knowledge) -> Mapping[str, tuple[Advisory, ...]]:
    """Return the statements that carry no date, by source package."""
    return _kept(knowledge.advisories, lambda record: record.published_on is None)


def _dated(day: date | None, as_of: date) -> bool:
    return day is not None and day <= as_of


def _kept(
    records: Mapping[str, Iterable[Value]], wanted: Callable[[Value], bool]
) -> dict[str, tuple[Value, ...]]:
    kept = {name: tuple(filter(wanted, values)) for name, values in records.items()}
    return {name: values for name, values in kept.items() if values}
