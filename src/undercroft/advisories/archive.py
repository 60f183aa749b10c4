"""What the distribution's mirror says: newer versions, versions that nobody lists, CVEs in changelogs.

Rules, with the reasons:

1. The candidate is the newest version over all suites of the release: main can be ahead of security.
   Backports and proposed updates count only for what was installed from there, as in apt's defaults.
2. Being outdated is no vulnerability. What a newer version fixes is what the changelog entries between
   the installed version and the candidate name; the newest entry alone often names nothing.
3. A changelog speaks for a range only when it reaches from the candidate down to the installed version or
   below. Where none does, what the outdated package lacks is unknown.
4. An index carries no dates. For a day in the past the candidate is the newest version that a changelog
   dates on or before that day.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

from undercroft.advisories.debversion import key
from undercroft.advisories.knowledge import Knowledge
from undercroft.advisories.records import Advisory, ChangelogEntry, IndexEntry, Status
from undercroft.advisories.sources import Subject, signed_version
from undercroft.model.finding import Outdated, Unassessed
from undercroft.model.inventory import Package

_ON_REQUEST = ("-backports", "-backports-sloppy", "-proposed-updates", "-proposed")


@dataclass(frozen=True, slots=True)
class Standing:
    """How one installed package stands to the release's indexes; neither is set when it is up to date."""

    outdated: Outdated | None = None
    unassessed: Unassessed | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What changelogs say of a source package beyond the installed version.

    Attributes:
        statements: one per vulnerability that the versions up to the candidate name, fixed in the first
            version that names it.
        candidate_version: the newest source version that the archive offers, "" when it lists none.
        newest_version: the newest one of the range that a changelog dates early enough, "" for none.
        versions: keys of all versions that the changelog lists.
        whole: whether the changelog reaches from the candidate down to the installed version.
    """

    statements: tuple[Advisory, ...]
    candidate_version: str
    newest_version: str
    versions: frozenset[bytes]
    whole: bool


def candidate(listed: Iterable[tuple[str, str]], installed: str) -> tuple[str, str]:
    """Return (suite, version) of the newest version to be had, ("", "") when `listed` is empty.

    Args:
        listed: (suite, version) pairs.
        installed: a version that came from backports makes these count too.
    """
    pairs = sorted(listed, key=lambda pair: (key(pair[1]), pair[0]))
    automatic = [pair for pair in pairs if not pair[0].endswith(_ON_REQUEST)]
    if automatic and key(automatic[-1][1]) >= key(installed):
        return automatic[-1]
    return pairs[-1] if pairs else ("", "")


def standing(
    package: Package, subject: Subject, known_versions: frozenset[bytes], entries: Sequence[IndexEntry]
) -> Standing:
    """Return how `package` stands to the index.

    Args:
        package: untrusted.
        subject: its source package and version.
        known_versions: keys of the source versions that a changelog lists.
        entries: the index's for this package name, any architecture.
    """
    if not entries:
        return Standing(None, Unassessed(package.name, package.version, "no source lists this package"))
    matching = [entry for entry in entries if _same_architecture(package.architecture, entry.architecture)]
    if not matching:
        reason = f"no source lists this package for {package.architecture}"
        return Standing(None, Unassessed(package.name, package.version, reason))
    installed = key(package.version)
    suite, version = candidate(((entry.suite, entry.version) for entry in matching), package.version)
    older = installed < key(version)
    outdated = Outdated(package.name, package.source, package.version, version, suite) if older else None
    if any(key(entry.version) == installed for entry in matching) or key(subject.version) in known_versions:
        return Standing(outdated)
    reason = "no source lists this version" if older else "newer than any source lists"
    return Standing(outdated, Unassessed(package.name, package.version, reason))


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
    entries = sorted(_entries(knowledge, subject.source, recorded_sources), key=lambda pair: key(pair[0]))
    installed, limit = key(subject.version), key(offered)
    newer = [
        (version, entry)
        for version, entry in entries
        if installed < key(version) <= limit and (as_of is None or entry.dated_on <= as_of)
    ]
    statements: dict[str, Advisory] = {}
    for version, entry in newer:
        for vulnerability in entry.vulnerabilities:
            if vulnerability not in statements:
                statements[vulnerability] = Advisory(
                    feed=f"mirror:{knowledge.release}:{suite}",
                    release=knowledge.release,
                    source=subject.source,
                    vulnerability=vulnerability,
                    advisory="",
                    status=Status.FIXED,
                    fixed_version=version,
                    published_on=entry.dated_on,
                    title=entry.title,
                )
    versions = frozenset(key(version) for version, _ in entries)
    return History(
        statements=tuple(statements.values()),
        candidate_version=offered,
        newest_version=newer[-1][0] if newer else "",
        versions=versions,
        whole=limit in versions and min(versions) <= installed,
    )


def _entries(
    knowledge: Knowledge, source: str, recorded_sources: Iterable[str]
) -> list[tuple[str, ChangelogEntry]]:
    """Return (version, entry); a signed source's changelog repeats that of the source that it signs."""
    entries = [(entry.version, entry) for entry in knowledge.changelogs.get(source, ())]
    for signed in set(recorded_sources) - {source}:
        entries += [(signed_version(entry.version), entry) for entry in knowledge.changelogs.get(signed, ())]
    return entries


def _same_architecture(installed: str, listed: str) -> bool:
    """Return whether one can replace the other: a package may turn into "all", or back."""
    return installed == listed or "all" in {installed, listed}
