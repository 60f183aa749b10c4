"""OSV records of distributions and of languages: a publisher's zip archive, or one JSON record.

Follows https://ossf.github.io/osv-schema, major version 1. Guarantees: a withdrawn record states nothing;
a record speaks for each CVE number among its id, aliases and upstream ids, else for its own id;
`osv_ranges` says how ranges become statements, `osv_subjects` which packages their names mean. Ecosystems
that `releases.osv_release` does not know are passed over, and an archive of nothing else is refused, not
empty.

An archive is read twice, record by record: once for its header (the newest `modified` that is not ahead of
the clock dates it), once for the statements.
"""

from collections.abc import Iterator, Mapping

from undercroft.advisories.families import is_language, order_of
from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.archives import MAX_MEMBER_BYTES
from undercroft.advisories.feeds.bounded import load_json, read_all
from undercroft.advisories.feeds.feed import Feed, FeedInput, check_not_ahead
from undercroft.advisories.feeds.headers import dated
from undercroft.advisories.feeds.osv_ranges import statements
from undercroft.advisories.feeds.osv_records import (
    PER_VULNERABILITY,
    OsvRecord,
    affected_in,
    archive_records,
    read_record,
)
from undercroft.advisories.feeds.osv_scope import OsvSurvey, of_debs
from undercroft.advisories.feeds.osv_subjects import subjects
from undercroft.advisories.feeds.severity import cvss_severity
from undercroft.advisories.records import Advisory, Status
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.finding import Severity
from undercroft.model.schema import Json

MIN_COMPLETE_RECORDS = 1000
"""From how many per-vulnerability records on an archive counts as the publisher's whole word on a release.
Each supported release has tens of thousands; fewer are an excerpt, in which silence means nothing."""

MIN_LISTED_RECORDS = 50
"""From how many records on an archive counts as the list of what a release's publisher has fixed."""

_UNREAD = "speaks for a distribution or language whose OSV records are read"


def parse_archive(source: FeedInput) -> Feed:
    """Return the statements of a zip archive. Raises InputError, also while the records are taken."""
    survey = OsvSurvey(source.now)
    for record in archive_records(source):
        survey.add_record(record)
    ecosystem, releases = survey.scope()
    if not releases or survey.newest is None:
        raise UnsupportedError(f"{source.name}: of its {survey.records} OSV records none {_UNREAD}")
    name = f"osv:{ecosystem}"
    header = dated(
        name,
        survey.newest,
        ages.OSV_ARCHIVE_S if of_debs(releases) else ages.OSV_ERRATA_S,
        releases,
        complete_for=tuple(
            r for r in releases if of_debs([r]) and survey.per_vulnerability[r] >= MIN_COMPLETE_RECORDS
        ),
        listed_for=tuple(r for r in releases if not of_debs([r]) and survey.about[r] >= MIN_LISTED_RECORDS),
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
    record = read_record(load_json(data, source.name), source.name)
    check_not_ahead(record.modified_at, source.now, source.name)
    name = f"osv:{record.ident}"
    advisories = list(record_advisories(record, name))
    if not advisories and not record.withdrawn:
        raise UnsupportedError(f"{source.name}: {record.ident}: none of its packages {_UNREAD}")
    releases = [advisory.release for advisory in advisories]
    header = dated(name, record.modified_at, ages.OSV_RECORD_S, releases)
    return Feed(header, iter(advisories))


def record_advisories(record: OsvRecord, feed: str) -> Iterator[Advisory]:
    """Yield what `record` says about Debian and Ubuntu, as statements of `feed`. Raises InputError."""
    if record.withdrawn:
        return
    document = record.document
    published_on = fields.optional_day(document.get("published"), f"{record.place}: published")
    title = _title(record)
    vulnerabilities = _vulnerabilities(record)
    for affected, release, stream in affected_in(record):
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
    if not record.ident.startswith(PER_VULNERABILITY) and len(names) == 1:
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
    if found[0] is Severity.UNKNOWN and not of_debs([release]):
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
