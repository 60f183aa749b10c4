"""What the database knows that bears on one inventory, as values that matching works on.

`Knowledge` holds at least every record that can change the answer for the inventory that it was asked
for; it may hold more. `gather` builds one from plain records, without a database.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from undercroft.advisories.families import is_language
from undercroft.advisories.records import (
    Advisory,
    ChangelogEntry,
    ExploitProbability,
    FeedHeader,
    IndexEntry,
    KnownExploited,
    Record,
    VexStatement,
    Vulnerability,
)
from undercroft.model.finding import FeedStatus

Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Edition:
    """One edition of a feed as the database holds it: its header, when it came and how much it brought."""

    header: FeedHeader
    fetched_at: datetime
    records: int

    @property
    def known_until(self) -> datetime:
        """The moment after which this edition has no answers.

        The publisher's own limit or ours, whichever comes first; ours counts from the publisher's date,
        since importing an old edition again does not make it newer.
        """
        age_limit = (self.header.published_at or self.fetched_at) + timedelta(seconds=self.header.max_age_s)
        return min(age_limit, self.header.valid_until or age_limit)

    def status(self, at: datetime) -> FeedStatus:
        """Return what is shown of this edition, stale or not at the moment `at`."""
        return FeedStatus(
            name=self.header.name,
            serial=self.header.serial,
            published_at=self.header.published_at,
            fetched_at=self.fetched_at,
            valid_until=self.known_until,
            records=self.records,
            signed_by=self.header.signed_by,
            stale=at > self.known_until,
        )


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Records that bear on one inventory of one release.

    Attributes:
        release: the release key that it was gathered for.
        editions: the feeds that speak for the release, and those that speak of vulnerabilities as such.
        advisories: statements by source package.
        index: entries of the release's package indexes by binary package.
        archive: (suite, source version) that the release's indexes list, by source package.
        has_index: whether any package index of the release is there.
        changelogs: history by source package, in any order.
        vulnerabilities: CVE records by number.
        known_exploited: entries of KEV by CVE number.
        exploit_probabilities: EPSS by CVE number.
        vex: the user's own statements.
        beside: the same for the ecosystems of languages whose packages the machine has, where a feed speaks
            for them.
    """

    release: str
    editions: tuple[Edition, ...] = ()
    advisories: Mapping[str, tuple[Advisory, ...]] = field(default_factory=dict)
    index: Mapping[str, tuple[IndexEntry, ...]] = field(default_factory=dict)
    archive: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    has_index: bool = False
    changelogs: Mapping[str, tuple[ChangelogEntry, ...]] = field(default_factory=dict)
    vulnerabilities: Mapping[str, tuple[Vulnerability, ...]] = field(default_factory=dict)
    known_exploited: Mapping[str, KnownExploited] = field(default_factory=dict)
    exploit_probabilities: Mapping[str, ExploitProbability] = field(default_factory=dict)
    vex: tuple[VexStatement, ...] = ()
    beside: "tuple[Knowledge, ...]" = ()


def gather(release: str, editions: Iterable[tuple[Edition, Iterable[Record]]]) -> Knowledge:
    """Return all that `editions` say of `release` and of vulnerabilities as such."""
    kept: list[Edition] = []
    records: list[Record] = []
    every = [(edition, list(its_records)) for edition, its_records in editions]
    spoken_for = {name for edition, _ in every for name in edition.header.releases}
    for edition, its_records in every:
        if not edition.header.releases or release in edition.header.releases:
            kept.append(edition)
            records.extend(its_records)
    advisories = [record for record in records if isinstance(record, Advisory) and record.release == release]
    index = [record for record in records if isinstance(record, IndexEntry) and record.release == release]
    return Knowledge(
        release=release,
        editions=tuple(kept),
        advisories=grouped((record.source, record) for record in advisories),
        index=grouped((record.package, record) for record in index),
        archive=grouped((record.source, (record.suite, record.source_version)) for record in index),
        has_index=bool(index),
        changelogs=grouped((record.source, record) for record in _of(ChangelogEntry, records)),
        vulnerabilities=grouped((record.vulnerability, record) for record in _of(Vulnerability, records)),
        known_exploited={record.vulnerability: record for record in _of(KnownExploited, records)},
        exploit_probabilities={record.vulnerability: record for record in _of(ExploitProbability, records)},
        vex=tuple(_of(VexStatement, records)),
        beside=()
        if is_language(release)
        else tuple(gather(name, every) for name in sorted(spoken_for) if is_language(name)),
    )


def grouped(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, tuple[Value, ...]]:
    """Return the values of equal keys together, in the order in which they came."""
    groups: defaultdict[Key, list[Value]] = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    return {key: tuple(values) for key, values in groups.items()}


def _of(kind: type[Value], records: Iterable[Record]) -> Iterable[Value]:
    return (record for record in records if isinstance(record, kind))
