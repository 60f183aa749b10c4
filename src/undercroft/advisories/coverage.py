"""Whether the feeds that are there can answer for a release on a day, and what limits their answer.

A problem makes the assessment incomplete: nothing covers the release, a feed is too old, the release gets
no advisories any more. A note tells what a whole answer does not include.
"""

from collections.abc import Iterator
from datetime import datetime

from undercroft.advisories.eol import ENDED, EXTENDED
from undercroft.advisories.knowledge import Edition, Knowledge
from undercroft.model.finding import EndOfLife

UPDATE = "undercroft feeds update"
_ADVISORY_LISTS = {"debian-dsa"}
"""Feeds that end with a release's regular support: LTS advisories come in another one."""

_MIRROR = "mirror:"
_CHANGELOGS = "changelogs:"
_SECURITY_SUITES = ("-security", "/updates")


def covering(knowledge: Knowledge) -> tuple[Edition, ...]:
    """Return the editions that speak for the release and hold anything at all.

    Changelogs explain what an index shows to be outdated; alone they say nothing of a machine.
    """
    return tuple(
        edition
        for edition in knowledge.editions
        if knowledge.release in edition.header.releases
        and edition.records
        and not edition.header.name.startswith(_CHANGELOGS)
    )


def is_complete(knowledge: Knowledge, at: datetime) -> bool:
    """Return whether a feed that is fresh at `at` knows every vulnerability of the release, fixed or not."""
    return any(
        knowledge.release in edition.header.complete_for and at <= edition.known_until
        for edition in covering(knowledge)
    )


def problems(knowledge: Knowledge, at: datetime, end_of_life: EndOfLife) -> Iterator[str]:
    """Yield why the feeds cannot answer for the release at the moment `at`."""
    names = {edition.header.name for edition in covering(knowledge)}
    if not names:
        yield f"no advisories for {knowledge.release}: {UPDATE}"
    elif all(name.startswith(_MIRROR) and not name.endswith(_SECURITY_SUITES) for name in names):
        yield f"the security suite of {knowledge.release} is not imported from its mirror: {UPDATE}"
    elif names <= _ADVISORY_LISTS and end_of_life.state == EXTENDED:
        yield f"{knowledge.release} is in LTS, whose advisories debian-dsa does not hold: {UPDATE}"
    if end_of_life.state == ENDED:
        ended_on = end_of_life.extended_ends_on or end_of_life.ends_on
        yield (
            f"{knowledge.release} reached its end of life on {ended_on}: later vulnerabilities are unknown; "
            "move to a supported release"
        )
    for edition in knowledge.editions:
        if at > edition.known_until:
            yield _stale(edition, at)


def notes(knowledge: Knowledge, at: datetime) -> Iterator[str]:
    """Yield what the answer does not include, whole as it may be."""
    if not knowledge.has_index:
        yield f"no package index of {knowledge.release} is imported: origins of packages were not checked"
    if covering(knowledge) and not is_complete(knowledge, at):
        yield f"no security tracker of {knowledge.release} is imported: only fixed vulnerabilities are known"
    if not any(edition.header.name == "kev" for edition in knowledge.editions):
        yield "no catalog of known exploited vulnerabilities is imported"


def _stale(edition: Edition, at: datetime) -> str:
    header = edition.header
    if header.valid_until is not None and edition.known_until == header.valid_until:
        return (
            f"{header.name} was valid until {header.valid_until:%Y-%m-%d}, says its publisher: "
            f"its answers are unknown: {UPDATE}"
        )
    age = at - (header.published_at or edition.fetched_at)
    limit_days = header.max_age_s / 86400
    return (
        f"{header.name} is {age.days} days old, the limit is {limit_days:.3g}: "
        f"its answers are unknown: {UPDATE}"
    )
