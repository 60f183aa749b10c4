"""What changelogs say that the archive's newest version has and the installed one lacks.

A changelog is a path through versions, newest first; sources of one name can have several (branches). Rules,
with the reasons:

1. The changelog that leads to the candidate is read whole: its newest entry alone often names nothing. It
   explains the candidate only when it reaches down to the installed version or below.
2. Where it lists the installed version, and time runs along it, both are of one branch: what stands above
   the installed version is missing there, and fixed in the first version that names it.
3. Else the candidate comes from another branch: a stable release took a new upstream version. Its changelog
   also names what the installed branch has fixed by itself, so what that branch's own history names is
   taken away, and the rest is fixed in the candidate: the versions below it were never offered.
4. Own history is the installed version's own changelog, else what the candidate's lists below it (changelogs
   are merged by version), going back in time only. Where neither is there, nothing is taken away.
5. For a day in the past only one branch's entries up to that day count: an index carries no dates, so
   nobody can tell since when another branch's version was offered.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

from undercroft.advisories.archive import candidate
from undercroft.advisories.debversion import key
from undercroft.advisories.knowledge import Knowledge
from undercroft.advisories.records import Advisory, ChangelogEntry, Status
from undercroft.advisories.sources import Subject, signed_version

Changelog = Sequence[tuple[str, ChangelogEntry]]
"""Versions as `Subject` has them, with their entries, newest first as in the file."""


@dataclass(frozen=True, slots=True)
class History:
    """What changelogs say of a source package beyond the installed version.

    Attributes:
        statements: one per vulnerability that the installed version lacks the fix of.
        candidate_version: the newest source version that the archive offers, "" when it lists none.
        versions: keys of all versions that some changelog lists.
        whole: whether the candidate's changelog reaches down to the installed version.
        one_branch: whether the candidate continues the installed version (rule 2).
        has_own: whether the installed version's own changelog is there; only matters across branches.
        is_uncertain: some statements may be about what the installed version has fixed (end of rule 4).
    """

    statements: tuple[Advisory, ...]
    candidate_version: str
    versions: frozenset[bytes]
    whole: bool
    one_branch: bool = True
    has_own: bool = True
    is_uncertain: bool = False


def history(
    knowledge: Knowledge, subject: Subject, recorded_sources: Iterable[str], as_of: date | None
) -> History:
    """Return what changelogs say that the archive has beyond the installed `subject`.

    Args:
        knowledge: for the release.
        subject: installed source package and version.
        recorded_sources: its names in the guest's package database, before signing was looked through.
        as_of: entries after this day do not count, None for all.
    """
    suite, offered = candidate(knowledge.archive.get(subject.source, ()), subject.version)
    installed = key(subject.version)
    changelogs = _changelogs(knowledge, subject.source, recorded_sources)
    versions = frozenset(key(version) for changelog in changelogs.values() for version, _ in changelog)
    if installed >= key(offered):
        return History((), offered, versions, whole=key(offered) in versions)
    leading = _leading_to(offered, changelogs)
    listed = {key(version) for version, _ in leading}
    whole = key(offered) in listed and min(listed) <= installed
    says = partial(_statement, f"mirror:{knowledge.release}:{suite}", knowledge.release, subject.source)
    above = _above(leading, installed)
    if above is not None:
        counting = [(version, entry) for version, entry in above if as_of is None or entry.dated_on <= as_of]
        first = {name: (version, entry) for version, entry in counting for name in entry.vulnerabilities}
        statements = [says(name, version, entry) for name, (version, entry) in first.items()]
        return History(tuple(statements), offered, versions, whole)
    own = changelogs.get(installed, ())
    past = own or list(_back_in_time(leading, installed))
    missing = _missing(leading, past, installed, is_own=bool(own)) if as_of is None else {}
    return History(
        tuple(says(name, offered, entry) for name, entry in missing.items()),
        offered,
        versions,
        whole,
        one_branch=False,
        has_own=bool(own),
        is_uncertain=bool(missing) and not past,
    )


def _statement(
    feed: str, release: str, source: str, vulnerability: str, fixed_version: str, entry: ChangelogEntry
) -> Advisory:
    return Advisory(
        feed=feed,
        release=release,
        source=source,
        vulnerability=vulnerability,
        advisory="",
        status=Status.FIXED,
        fixed_version=fixed_version,
        published_on=entry.dated_on,
        title=entry.title,
    )


def _changelogs(
    knowledge: Knowledge, source: str, recorded_sources: Iterable[str]
) -> Mapping[bytes, Changelog]:
    """Return changelogs by the key of their newest version; a signed source's repeats what it signs."""
    found: dict[bytes, list[tuple[str, ChangelogEntry]]] = {}
    for entry in knowledge.changelogs.get(source, ()):
        found.setdefault(key(entry.branch), []).append((entry.version, entry))
    for signed in sorted(set(recorded_sources) - {source}):
        repeated: dict[bytes, list[tuple[str, ChangelogEntry]]] = {}
        for entry in knowledge.changelogs.get(signed, ()):
            branch = key(signed_version(entry.branch))
            repeated.setdefault(branch, []).append((signed_version(entry.version), entry))
        found = repeated | found
    return found


def _leading_to(offered: str, changelogs: Mapping[bytes, Changelog]) -> Changelog:
    """Return the changelog of `offered`, else one that lists it, else the newest of an older version."""
    limit = key(offered)
    if limit in changelogs:
        return changelogs[limit]
    for _, changelog in sorted(changelogs.items()):
        for position, (version, _) in enumerate(changelog):
            if key(version) == limit:
                return changelog[position:]
    return changelogs[max(older)] if (older := [branch for branch in changelogs if branch < limit]) else ()


def _above(leading: Changelog, installed: bytes) -> Changelog | None:
    """Return what stands above the installed version, None when that is not of this branch (rule 2)."""
    keys = [key(version) for version, _ in leading]
    if installed not in keys:
        return None
    position = keys.index(installed)
    day = leading[position][1].dated_on
    is_merged = any(entry.dated_on < day for _, entry in leading[:position]) or any(
        entry.dated_on > day for _, entry in leading[position:]
    )
    return None if is_merged else leading[:position]


def _back_in_time(leading: Changelog, installed: bytes) -> Iterator[tuple[str, ChangelogEntry]]:
    """Yield the installed version and what stands below it, without entries that leap forward in time."""
    day: date | None = None
    for version, entry in leading:
        if day is None and key(version) != installed:
            continue
        if day is None or entry.dated_on <= day:
            day = entry.dated_on
            yield version, entry


def _missing(
    leading: Changelog, past: Changelog, installed: bytes, *, is_own: bool
) -> Mapping[str, ChangelogEntry]:
    """Return what another branch fixes and the installed version does not, with the entries that name it.

    Args:
        leading: the candidate's changelog.
        past: the installed version's history, empty where it is unknown.
        installed: key of the installed version.
        is_own: `past` is a changelog of its own, so that what it does not list is not there.
    """
    known = {key(version) for version, _ in past}
    fixed = {name for _, entry in past for name in entry.vulnerabilities}
    oldest = min((entry.dated_on for _, entry in past), default=date.min)
    newest = max((entry.dated_on for _, entry in past), default=date.max)
    missing: dict[str, ChangelogEntry] = {}
    for version, entry in leading:
        if key(version) in known:
            continue
        # Changelogs are shortened at their old end: what is older than all of `past` was in it once.
        is_later = entry.dated_on >= oldest if is_own else entry.dated_on > newest
        if is_later or key(version) > installed:
            missing |= dict.fromkeys(set(entry.vulnerabilities) - fixed, entry)
    return missing
