"""OSV records of distributions and of languages: a publisher's zip archive, or one JSON record.

Follows https://ossf.github.io/osv-schema, major version 1. Guarantees: a withdrawn record states nothing;
a record speaks for each CVE number among its id, aliases and upstream ids, else for its own id;
`osv_ranges` says how ranges become statements, `osv_subjects` which packages their names mean. Ecosystems
that `releases.osv_release` does not know are passed over, and an archive of nothing else is refused, not
empty.

An archive is read twice, record by record: once for its header (the newest `modified` that is not ahead of
the clock dates it), once for the statements.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from undercroft.advisories.families import is_language, order_of
from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.archives import MAX_MEMBER_BYTES, json_documents
from undercroft.advisories.feeds.bounded import load_json, read_all
from undercroft.advisories.feeds.feed import MAX_CLOCK_SKEW, Feed, FeedInput, check_not_ahead, serial_of
from undercroft.advisories.feeds.osv_ranges import statements
from undercroft.advisories.feeds.osv_subjects import subjects
from undercroft.advisories.feeds.releases import osv_release
from undercroft.advisories.feeds.severity import cvss_severity
from undercroft.advisories.records import Advisory, FeedHeader, Status
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.finding import Severity
from undercroft.model.schema import Json

MIN_COMPLETE_RECORDS = 1000
"""From how many per-vulnerability records on an archive counts as the publisher's whole word on a release.
Each supported release has tens of thousands; fewer are an excerpt, in which silence means nothing."""

MIN_LISTED_RECORDS = 50
"""From how many records on an archive counts as the list of what a release's publisher has fixed."""

_PER_VULNERABILITY = ("DEBIAN-CVE-", "UBUNTU-CVE-", "ALPINE-CVE-")
_ECOSYSTEMS = {
    "alma": "AlmaLinux",
    "rocky": "RockyLinux",
    "rhel": "RedHat",
    "sles": "SUSE",
    "opensuse-leap": "openSUSE",
    "opensuse-tumbleweed": "openSUSE",
    "alpine": "Alpine",
    "pypi": "PyPI",
    "npm": "npm",
    "go": "Go",
    "gem": "RubyGems",
    "cargo": "crates.io",
}
_OF_DEBS = frozenset(("Debian", "Ubuntu"))
_UNREAD = "speaks for a distribution or language whose OSV records are read"
_LIVEPATCH = "LSN-"


@dataclass(frozen=True, slots=True)
class OsvRecord:
    """One record, checked as far as every ecosystem shares it."""

    ident: str
    modified_at: datetime
    withdrawn: bool
    document: Mapping[str, Json]
    place: str


def parse_archive(source: FeedInput) -> Feed:
    """Return the statements of a zip archive. Raises InputError, also while the records are taken."""
    survey = _Survey()
    for record in archive_records(source):
        survey.add(record, source.now)
    ecosystem, releases = survey.scope()
    if not releases or survey.newest is None:
        raise UnsupportedError(f"{source.name}: of its {survey.records} OSV records none {_UNREAD}")
    name = f"osv:{ecosystem}"
    header = FeedHeader(
        name=name,
        serial=serial_of(survey.newest),
        published_at=survey.newest,
        valid_until=None,
        max_age_s=ages.OSV_ARCHIVE_S if _of_debs(releases) else ages.OSV_ERRATA_S,
        releases=releases,
        complete_for=tuple(
            r for r in releases if _of_debs([r]) and survey.per_vulnerability[r] >= MIN_COMPLETE_RECORDS
        ),
        listed_for=tuple(r for r in releases if not _of_debs([r]) and survey.about[r] >= MIN_LISTED_RECORDS),
    )
    wanted = set(releases)
    advisories = (
        advisory
        for record in archive_records(source)
        for advisory in record_advisories(record, name)
        if advisory.release in wanted
    )
    return Feed(header, advisories)


def parse_record(source: FeedInput) -> Feed:
    """Return the statements of a single record, a feed of its own ("osv:DSA-5865-1"). Raises InputError."""
    data = read_all(source.file, MAX_MEMBER_BYTES, source.name)
    record = _record(load_json(data, source.name), source.name)
    check_not_ahead(record.modified_at, source.now, source.name)
    name = f"osv:{record.ident}"
    advisories = list(record_advisories(record, name))
    if not advisories and not record.withdrawn:
        raise UnsupportedError(f"{source.name}: {record.ident}: none of its packages {_UNREAD}")
    header = FeedHeader(
        name=name,
        serial=serial_of(record.modified_at),
        published_at=record.modified_at,
        valid_until=None,
        max_age_s=ages.OSV_RECORD_S,
        releases=tuple(sorted({advisory.release for advisory in advisories})),
    )
    return Feed(header, iter(advisories))


def archive_records(source: FeedInput) -> Iterator[OsvRecord]:
    """Yield the records of an archive, whatever their ecosystem. Raises InputError."""
    for place, content in json_documents(source.file, source.name):
        yield _record(load_json(content, place), place)


class _Survey:
    """What a first pass over an archive finds out for its header."""

    def __init__(self) -> None:
        self.records = 0
        self.newest: datetime | None = None
        self.per_vulnerability: dict[str, int] = {}
        self.about: Counter[str] = Counter()
        self._shared: set[str] | None = None
        self._shared_ecosystems: set[str] | None = None

    def add(self, record: OsvRecord, now: datetime) -> None:
        self.records += 1
        if record.modified_at <= now + MAX_CLOCK_SKEW:
            self.newest = max(record.modified_at, self.newest or record.modified_at)
        releases = {release for _, release, _ in _affected(record)}
        for release in releases:
            counts = record.ident.startswith(_PER_VULNERABILITY)
            self.per_vulnerability[release] = self.per_vulnerability.get(release, 0) + counts
        if releases:
            self.about.update(releases)
            self._shared = releases if self._shared is None else self._shared & releases
        if ecosystems := _ecosystems(record):
            known = self._shared_ecosystems
            self._shared_ecosystems = ecosystems if known is None else known & ecosystems

    def scope(self) -> tuple[str, tuple[str, ...]]:
        """Return (ecosystem, releases) that the archive speaks for.

        Publishers have one archive per ecosystem ("Debian") and one per release ("Debian:12"); the records
        of the latter mention other releases too, but only where they all mention one is it told whole.
        """
        ecosystems = sorted(set(map(_ecosystem, self.about)))
        shared = set(ecosystems) & (self._shared_ecosystems or set())
        if len(ecosystems) > 1 and len(shared) == 1:
            ecosystems = list(shared)
        releases = tuple(sorted(release for release in self.about if _ecosystem(release) in ecosystems))
        if len(ecosystems) == 1 and len(releases) > 1 and self._shared and len(self._shared) == 1:
            releases = tuple(self._shared)
        if len(ecosystems) == 1 and len(releases) == 1 and self._shared == set(releases):
            return self._of_one(releases[0]), releases
        return "+".join(ecosystems), releases

    def _of_one(self, release: str) -> str:
        """Return the name of an archive whose records all mention one release, and others do not."""
        version = release.partition(":")[2]
        return f"{_ecosystem(release)}:{version}" if len(self.about) > 1 and version else _ecosystem(release)


def _ecosystem(release: str) -> str:
    """Return what a release's ecosystem is called in a feed's name."""
    distribution = release.partition(":")[0]
    return _ECOSYSTEMS.get(distribution, distribution.capitalize())


def _ecosystems(record: OsvRecord) -> set[str]:
    """Return every ecosystem that a record mentions, read or not ("SUSE" for "SUSE:Linux Enterprise ...")."""
    found = set()
    for affected in fields.as_objects(record.document.get("affected"), f"{record.place}: affected"):
        package = fields.as_object(affected.get("package") or {}, f"{record.place}: package")
        name = fields.as_text(package.get("ecosystem"), f"{record.place}: ecosystem").partition(":")[0]
        found.add(name.replace(" ", ""))
    return found - {""}


def _of_debs(releases: Iterable[str]) -> bool:
    return all(_ecosystem(release) in _OF_DEBS for release in releases)


def _record(document: Json, place: str) -> OsvRecord:
    record = fields.as_object(document, place)
    schema = fields.as_text(record.get("schema_version"), f"{place}: schema_version") or "1.0.0"
    if schema.partition(".")[0] != "1":
        raise UnsupportedError(
            f"{place}: OSV schema {ascii(schema)[:40]}; this version of Undercroft reads schema 1, update it"
        )
    return OsvRecord(
        ident=fields.ident(record.get("id"), f"{place}: id"),
        modified_at=fields.moment(record.get("modified"), f"{place}: modified"),
        withdrawn=record.get("withdrawn") is not None,
        document=record,
        place=place,
    )


def _affected(record: OsvRecord) -> Iterator[tuple[Mapping[str, Json], str, str]]:
    """Yield (affected object, release, stream) of what the record says about Debian and Ubuntu."""
    if record.ident.startswith(_LIVEPATCH):
        return  # livepatches are patched in memory: no package version fixes or shows them
    for affected in fields.as_objects(record.document.get("affected"), f"{record.place}: affected"):
        package = fields.as_object(affected.get("package") or {}, f"{record.place}: package")
        place = f"{record.place}: ecosystem"
        if found := osv_release(fields.as_text(package.get("ecosystem"), place)):
            yield affected, *found


def record_advisories(record: OsvRecord, feed: str) -> Iterator[Advisory]:
    """Yield what `record` says about Debian and Ubuntu, as statements of `feed`. Raises InputError."""
    if record.withdrawn:
        return
    document = record.document
    published_on = fields.optional_day(document.get("published"), f"{record.place}: published")
    title = _title(record)
    vulnerabilities = _vulnerabilities(record)
    for affected, release, stream in _affected(record):
        severity, severity_source = _severity(affected, document, release, record.place)
        place = f"{record.place}: {ascii(affected.get('package'))[:80]}"
        for status, introduced_version, fixed_version in statements(affected, place):
            if not _can_be_compared(release, fixed_version):
                status, fixed_version = Status.UNDETERMINED, ""  # noqa: PLW2901 - what is no version fixes none
            for name, its_version in subjects(affected, release, fixed_version, title, record.place):
                for vulnerability in vulnerabilities:
                    yield Advisory(
                        feed=feed,
                        release=release,
                        source=name,
                        vulnerability=vulnerability,
                        advisory=record.ident,
                        status=status,
                        fixed_version=its_version,
                        introduced_version=introduced_version,
                        stream=stream,
                        published_on=published_on,
                        severity=severity,
                        severity_source=severity_source,
                        title=title,
                    )


def _can_be_compared(release: str, fixed_version: str) -> bool:
    """Tell whether a fix is a version in the order of its language, which sorts any other text lowest."""
    if not fixed_version or not is_language(release):
        return True
    try:
        order_of(release).check(fixed_version)
    except InputError:
        return False
    return True


def _title(record: OsvRecord) -> str:
    for key in ("summary", "details"):
        if title := fields.title(fields.as_text(record.document.get(key), f"{record.place}: {key}")):
            return title
    return ""


def _vulnerabilities(record: OsvRecord) -> list[str]:
    names = [record.ident]
    for key in ("aliases", "upstream"):
        names += fields.as_texts(record.document.get(key), f"{record.place}: {key}")
    if not record.ident.startswith(_PER_VULNERABILITY) and len(names) == 1:
        # Before schema 1.7 had `upstream`, advisories named their CVEs as related.
        names += fields.as_texts(record.document.get("related"), f"{record.place}: related")
    found = dict.fromkeys(name for name in names if fields.is_cve_number(name))
    return list(found) or [record.ident]


def _severity(
    affected: Mapping[str, Json], document: Mapping[str, Json], release: str, place: str
) -> tuple[Severity, str]:
    """Return the distribution's own judgement where there is one, else the CVSS score.

    An erratum's rating ("Important: ...") is that of the worst of its vulnerabilities, so it counts last.
    """
    specific = fields.as_object(affected.get("ecosystem_specific") or {}, f"{place}: ecosystem_specific")
    for word, source in (
        (specific.get("urgency"), "debian:urgency"),
        (specific.get("ubuntu_priority"), "ubuntu:priority"),
    ):
        severity = fields.severity_word(word) if isinstance(word, str) else Severity.UNKNOWN
        if severity is not Severity.UNKNOWN:
            return severity, source
    entries = fields.as_objects(affected.get("severity"), f"{place}: severity")
    entries += fields.as_objects(document.get("severity"), f"{place}: severity")
    found = _best_severity(entries, place)
    word = fields.as_text(document.get("summary"), place).partition(":")[0]
    if found[0] is Severity.UNKNOWN and not _of_debs([release]):
        rating = fields.severity_word(word)
        return rating, "" if rating is Severity.UNKNOWN else f"{release.partition(':')[0]}:erratum"
    return found


_CVSS_TYPES = ("CVSS_V4", "CVSS_V3", "CVSS_V2")


def _best_severity(entries: list[Mapping[str, Json]], place: str) -> tuple[Severity, str]:
    scores = {
        fields.as_text(entry.get("type"), place): fields.as_text(entry.get("score"), place)
        for entry in reversed(entries)
    }
    priority = fields.severity_word(scores.get("Ubuntu", ""))
    if priority is not Severity.UNKNOWN:
        return priority, "ubuntu:priority"
    for kind in _CVSS_TYPES:
        severity, source = cvss_severity(scores.get(kind, ""))
        if severity is not Severity.UNKNOWN:
            return severity, f"osv:{source}"
    return Severity.UNKNOWN, ""
