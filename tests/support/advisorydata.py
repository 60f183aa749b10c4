"""Inventories, feeds and records for tests of matching, in as few words as possible."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, date, datetime

from undercroft.advisories.knowledge import Edition, Knowledge, gather
from undercroft.advisories.match import assess
from undercroft.advisories.records import (
    Advisory,
    ChangelogEntry,
    FeedHeader,
    IndexEntry,
    Record,
    Status,
)
from undercroft.model.disk import Coverage
from undercroft.model.finding import Assessment
from undercroft.model.inventory import Boot, Inventory, Kernel, OsRelease, Package

NOW = datetime(2026, 3, 7, 12, tzinfo=UTC)
DAY_S = 86400
BOOKWORM = "debian:12"
JAMMY = "ubuntu:22.04"

DEBIAN_12 = OsRelease("debian", "12", "bookworm", "Debian GNU/Linux 12 (bookworm)", "/etc/os-release")
UBUNTU_2204 = OsRelease("ubuntu", "22.04", "jammy", "Ubuntu 22.04.5 LTS", "/etc/os-release")


def package(
    name: str,
    version: str,
    source: str = "",
    source_version: str = "",
    architecture: str = "amd64",
    status: str = "installed",
) -> Package:
    """Return a package; source and source version are the binary's where they are not given."""
    return Package("dpkg", name, version, architecture, source or name, source_version or version, status)


def inventory(
    *packages: Package,
    os: OsRelease | None = DEBIAN_12,
    kernels: tuple[Kernel, ...] = (),
    boot: Boot | None = None,
) -> Inventory:
    """Return one state of a machine that was read completely."""
    return Inventory(os, "web01", packages, kernels, boot or Boot(), 0, (), Coverage(()))


def header(
    name: str,
    releases: tuple[str, ...] = (BOOKWORM,),
    complete: bool = False,
    published_at: datetime | None = NOW,
    max_age_days: float = 3,
    serial: str = "2026-03-07",
    valid_until: datetime | None = None,
) -> FeedHeader:
    """Return the header of an edition that is fresh at `NOW`."""
    return FeedHeader(
        name=name,
        serial=serial,
        published_at=published_at,
        valid_until=valid_until,
        max_age_s=int(max_age_days * DAY_S),
        releases=releases,
        complete_for=releases if complete else (),
    )


TRACKER = header("debian-tracker", complete=True)
DSA = header("debian-dsa")
OSV = header("osv:Debian:12")
UBUNTU_OSV = header("osv:Ubuntu:22.04", (JAMMY,), complete=True)
MIRROR = header("mirror:debian:12:bookworm-security")
CVES = header("cve", ())
KEV = header("kev", ())
EPSS = header("epss", ())
VEX = header("openvex:ours", ())


def statement(
    feed: FeedHeader,
    source: str,
    vulnerability: str,
    fixed: str = "",
    status: Status | None = None,
    advisory: str = "",
    **fields: object,
) -> Advisory:
    """Return a statement of `feed` about its first release; FIXED when `fixed` is given, else UNFIXED."""
    made = Advisory(
        feed=feed.name,
        release=feed.releases[0],
        source=source,
        vulnerability=vulnerability,
        advisory=advisory,
        status=status or (Status.FIXED if fixed else Status.UNFIXED),
        fixed_version=fixed,
    )
    return replace(made, **fields)  # type: ignore[arg-type]  # whatever fields a test needs


def listed(
    name: str,
    version: str,
    source: str = "",
    source_version: str = "",
    suite: str = "bookworm-security",
    architecture: str = "amd64",
    release: str = BOOKWORM,
) -> IndexEntry:
    """Return an index entry; source and source version are the binary's where they are not given."""
    return IndexEntry(release, suite, name, architecture, version, source or name, source_version or version)


def entry(
    source: str, version: str, *vulnerabilities: str, dated_on: date = date(2026, 1, 1)
) -> ChangelogEntry:
    """Return a changelog that lists one version only."""
    return ChangelogEntry(source, version, dated_on, vulnerabilities, f"{source} {version}", version)


def changelog(*entries: ChangelogEntry) -> list[ChangelogEntry]:
    """Return `entries`, newest first, as one changelog."""
    return [replace(item, branch=entries[0].version) for item in entries]


def edition(feed: FeedHeader, records: int = 1, fetched_at: datetime = NOW) -> Edition:
    """Return an edition as the database would hold it."""
    return Edition(feed, fetched_at, records)


def knowledge(*feeds: tuple[FeedHeader, Iterable[Record]], release: str = BOOKWORM) -> Knowledge:
    """Return all that `feeds` say of `release`."""
    lists = [(feed, list(records)) for feed, records in feeds]
    return gather(release, [(edition(feed, len(records) or 1), records) for feed, records in lists])


def assessed(
    machine: Inventory,
    *feeds: tuple[FeedHeader, Iterable[Record]],
    release: str = BOOKWORM,
    now: datetime = NOW,
    as_of: date | None = None,
) -> Assessment:
    """Return what `feeds` say of `machine`."""
    return assess(machine, knowledge(*feeds, release=release), now=now, as_of=as_of)
