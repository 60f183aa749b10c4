"""Changelogs of the packages that are outdated somewhere: what their newer versions fix.

One binary package per source is fetched, the smallest that carries a changelog of its own; its digest comes
from the signed index. Nothing is unpacked. What a changelog says stays true, so entries are added to the
feed of their release and nothing is taken away. Each is kept whole, as the branch that leads to its newest
version.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from undercroft.advisories.feeds import ages
from undercroft.advisories.feeds.deb_archive import documentation
from undercroft.advisories.feeds.debian_changelog import changelog_entries
from undercroft.advisories.feeds.feed import serial_of
from undercroft.advisories.feeds.packages_index import ListedPackage
from undercroft.advisories.records import ChangelogEntry, FeedHeader
from undercroft.advisories.sources import tracked
from undercroft.errors import InputError, NotFoundError
from undercroft.ports.downloader import Wanted
from undercroft.usecases.feedresult import FeedProgress, FeedResult, Outcome
from undercroft.usecases.ingest import AdvisoryStore, refusals
from undercroft.usecases.mirror import Mirrors, Suite

MAX_PACKAGE_BYTES = 1 << 30
MAX_TRIED = 6
"""How many binary packages of a source are tried until one has a changelog of its own."""

SourceVersion = tuple[str, str]
Listing = tuple[Suite, ListedPackage]


def import_changelogs(
    database: AdvisoryStore,
    mirrors: Mirrors,
    suites: Sequence[Suite],
    missing: Collection[SourceVersion],
) -> tuple[FeedResult, ...]:
    """Fetch the changelogs of newer packages and add their entries to the database.

    Args:
        database: written to.
        mirrors: where packages come from.
        suites: verified ones, see `mirror.import_mirrors`.
        missing: (source package, version) pairs, as `match.missing_changelogs` names them.

    Returns:
        One result per release, and one for each source whose changelog could not be had.
    """
    results: list[FeedResult] = []
    for release, listings in _wanted(suites, set(missing)).items():
        name = f"changelogs:{release}"
        known = database.changelog_versions(name)
        entries: list[ChangelogEntry] = []
        for done, (source, candidates) in enumerate(sorted(listings.items())):
            mirrors.progress(FeedProgress(f"{name}:{source[0]}", "changelog", done, len(listings)))
            if source in known:
                continue
            with refusals(results, f"{name}:{source[0]}"):
                entries += _fetch(mirrors, source, candidates)
        if entries:
            with refusals(results, name):
                database.add_changelogs(_header(release, mirrors), entries, mirrors.now)
                results.append(FeedResult(name, Outcome.IMPORTED, len(entries)))
    return tuple(results)


def _wanted(
    suites: Iterable[Suite], missing: set[SourceVersion]
) -> Mapping[str, dict[SourceVersion, list[Listing]]]:
    """Return, by release, the source versions to fetch and the packages that were built from each.

    A source that only signs another (Secure Boot's kernels) repeats the other's changelog in packages that
    are many times larger, so the signed source's is taken where it is listed.
    """
    listed: defaultdict[tuple[str, SourceVersion], list[Listing]] = defaultdict(list)
    asked: set[tuple[str, SourceVersion]] = set()
    signed: dict[tuple[str, SourceVersion], SourceVersion] = {}
    for suite in suites:
        release = suite.release.release
        for package in suite.packages():
            source = (package.source, package.source_version)
            listed[release, source].append((suite, package))
            subject = tracked(release, *source, package.version)
            if source in missing or (subject.source, subject.version) in missing:
                asked.add((release, source))
                signed[release, source] = (subject.source, subject.version)
    wanted: defaultdict[str, dict[SourceVersion, list[Listing]]] = defaultdict(dict)
    for release, source in asked:
        origin = signed[release, source]
        taken = origin if (release, origin) in listed else source
        wanted[release][taken] = listed[release, taken]
    return wanted


def _fetch(mirrors: Mirrors, source: SourceVersion, candidates: list[Listing]) -> list[ChangelogEntry]:
    """Return the changelog of a source version. Raises NotFoundError where no package tried has one."""
    waiting = sorted(candidates, key=lambda listing: (listing[1].size_bytes, listing[1].package))
    for _ in range(min(MAX_TRIED, len(waiting))):
        suite, package = waiting.pop(0)
        if package.size_bytes > MAX_PACKAGE_BYTES:
            continue
        url = f"{suite.source.base}/{package.path}"
        wanted = Wanted(url, package.size_bytes, sha256=package.sha256, plain_http=True)
        download = mirrors.fetch(wanted, package.package)
        with download.path.open("rb") as file:
            found = documentation(file, package.package, url)
        mirrors.downloader.discard(download)
        if found.changelog is not None:
            return _checked(changelog_entries(found.changelog, url), source, url)
        waiting.sort(
            key=lambda listing: listing[1].package != found.linked_package
        )  # the rest keep their order
    raise NotFoundError(
        f"{source[0]} {source[1]}: no package of it that was tried has a changelog of its own"
    )


def _checked(entries: list[ChangelogEntry], source: SourceVersion, what: str) -> list[ChangelogEntry]:
    """Return the entries of a changelog that lists the expected version. Raises InputError."""
    if source[1] not in {entry.version for entry in entries}:
        raise InputError(f"{what}: its changelog does not reach up to {source[1]}")
    return [replace(entry, branch=source[1]) for entry in entries]


def _header(release: str, mirrors: Mirrors) -> FeedHeader:
    return FeedHeader(
        name=f"changelogs:{release}",
        serial=serial_of(mirrors.now),
        published_at=None,
        valid_until=None,
        max_age_s=ages.CHANGELOGS_S,
        releases=(release,),
    )
