"""An inventory against the distribution's mirror: what is outdated, what nobody vouches for.

The rules for one package are in `archive`; this applies them to all and says what the mirror does not
know. Without a package index of the release there is nothing to compare with, and every part is empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from undercroft.advisories.archive import History, history, standing
from undercroft.advisories.debversion import key
from undercroft.advisories.findings import Installed
from undercroft.advisories.knowledge import Knowledge
from undercroft.advisories.records import Advisory
from undercroft.advisories.sources import Subject
from undercroft.model.finding import Outdated, Unassessed


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the mirror says of an inventory.

    Attributes:
        outdated: sorted by package.
        unassessed: sorted by package.
        changelogs: what newer versions fix, by installed subject.
        unexplained: newer source versions whose changelogs are missing or do not reach down to the
            installed one, sorted.
    """

    outdated: tuple[Outdated, ...] = ()
    unassessed: tuple[Unassessed, ...] = ()
    changelogs: Mapping[Subject, Sequence[Advisory]] = field(default_factory=dict)
    unexplained: tuple[Subject, ...] = ()


def compare(knowledge: Knowledge, installed: Sequence[Installed], as_of: date | None) -> Comparison:
    """Return how `installed` stands to the mirror, on the evening of `as_of` where it is given."""
    if not knowledge.has_index:
        return Comparison()
    outdated: list[Outdated] = []
    unassessed: list[Unassessed] = []
    changelogs: dict[Subject, Sequence[Advisory]] = {}
    unexplained: set[Subject] = set()
    for item in installed:
        past = history(knowledge, item.subject, item.recorded_sources, as_of)
        changelogs[item.subject] = past.statements
        standings = [
            standing(package, item.subject, past.versions, knowledge.index.get(package.name, ()))
            for package in item.packages
        ]
        unassessed += [found.unassessed for found in standings if found.unassessed]
        behind = [found.outdated for found in standings if found.outdated]
        if (behind or key(item.subject.version) < key(past.candidate_version)) and not past.whole:
            unexplained.add(Subject(item.subject.source, past.candidate_version))
        outdated += behind if as_of is None else _on_day(behind, past)
    return Comparison(
        outdated=tuple(sorted(outdated, key=lambda item: (item.package, item.installed_version))),
        unassessed=tuple(sorted(unassessed, key=lambda item: (item.package, item.version))),
        changelogs=changelogs,
        unexplained=tuple(sorted(unexplained, key=lambda item: (item.source, item.version))),
    )


def _on_day(behind: Sequence[Outdated], past: History) -> list[Outdated]:
    """Return those of `behind` that a dated changelog entry shows to have been outdated on the day.

    The candidate is then the source version of that day, unless it is still the newest one.
    """
    if not past.whole or not past.newest_version:
        return []
    if key(past.newest_version) == key(past.candidate_version):
        return list(behind)
    return [replace(item, candidate_version=past.newest_version) for item in behind]
