"""An inventory against the distribution's mirror: what is outdated, what nobody vouches for.

The rules for one package are in `archive` and `history`; this applies them to all and says what the mirror
does not know. Without a package index of the release there is nothing to compare with, and every part is
empty.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from undercroft.advisories.archive import standing
from undercroft.advisories.debversion import key
from undercroft.advisories.history import history
from undercroft.advisories.installed import Installed
from undercroft.advisories.knowledge import Knowledge
from undercroft.advisories.records import Advisory
from undercroft.advisories.sources import Subject
from undercroft.model.finding import Outdated, Unassessed


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the mirror says of an inventory.

    Attributes:
        outdated: sorted by package; empty for a day in the past, since an index carries no dates.
        unassessed: sorted by package.
        changelogs: what newer versions fix, by installed subject.
        unexplained: newer source versions whose changelogs are missing, do not reach down to the installed
            one, or cannot tell for a day in the past; sorted.
        uncertain: installed versions some of whose findings may be fixed already, since their own history
            is not there; sorted.
        without_own: installed versions whose own changelogs would help against that, sorted.
    """

    outdated: tuple[Outdated, ...] = ()
    unassessed: tuple[Unassessed, ...] = ()
    changelogs: Mapping[Subject, Sequence[Advisory]] = field(default_factory=dict)
    unexplained: tuple[Subject, ...] = ()
    uncertain: tuple[Subject, ...] = ()
    without_own: tuple[Subject, ...] = ()


def compare(knowledge: Knowledge, installed: Sequence[Installed], as_of: date | None) -> Comparison:
    """Return how `installed` stands to the mirror, on the evening of `as_of` where it is given."""
    if not knowledge.has_index:
        return Comparison()
    outdated: list[Outdated] = []
    unassessed: list[Unassessed] = []
    changelogs: dict[Subject, Sequence[Advisory]] = {}
    unexplained: set[Subject] = set()
    uncertain: set[Subject] = set()
    without_own: set[Subject] = set()
    for item in installed:
        past = history(knowledge, item.subject, item.recorded_sources, as_of)
        changelogs[item.subject] = past.statements
        standings = [
            standing(package, item.subject, past.versions, knowledge.index.get(package.name, ()))
            for package in item.packages
        ]
        unassessed += [found.unassessed for found in standings if found.unassessed]
        behind = [found.outdated for found in standings if found.outdated]
        is_explained = past.whole and (past.one_branch or as_of is None)
        if (behind or key(item.subject.version) < key(past.candidate_version)) and not is_explained:
            unexplained.add(Subject(item.subject.source, past.candidate_version))
        if past.is_uncertain:
            uncertain.add(item.subject)
        if not past.has_own and past.whole:
            without_own.add(item.subject)
        outdated += behind
    return Comparison(
        outdated=tuple(sorted(outdated, key=lambda item: (item.package, item.installed_version)))
        if as_of is None
        else (),
        unassessed=tuple(sorted(unassessed, key=lambda item: (item.package, item.version))),
        changelogs=changelogs,
        unexplained=_sorted(unexplained),
        uncertain=_sorted(uncertain),
        without_own=_sorted(without_own),
    )


def _sorted(subjects: Iterable[Subject]) -> tuple[Subject, ...]:
    return tuple(sorted(subjects, key=lambda item: (item.source, item.version)))
