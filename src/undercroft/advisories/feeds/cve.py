"""CVE records for severities, titles and rejections: a zip archive, a folder, or one record.

Follows the CVE Record Format, major version 5 (https://github.com/CVEProject/cve-schema). Guarantees: the
assigner's own rating (cna) goes before an additional one (adp), newer CVSS versions before older ones; a
rejected record is kept as rejected. Other JSON files beside the records (the list's delta logs) are passed
over; a collection without any record is refused.

The newest `dateUpdated` that is not ahead of the clock dates a collection.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.archives import MAX_MEMBER_BYTES, json_documents
from undercroft.advisories.feeds.bounded import load_json, read_all
from undercroft.advisories.feeds.feed import MAX_CLOCK_SKEW, Feed, FeedInput, check_not_ahead, serial_of
from undercroft.advisories.feeds.severity import cvss_severity, rated
from undercroft.advisories.records import FeedHeader, Vulnerability
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.finding import Severity
from undercroft.model.schema import Json

NAME = "cve"
MAX_RECORDS = 1_500_000

_DATA_TYPE = "CVE_RECORD"
_METRICS = (("cvssV4_0", "4.0"), ("cvssV3_1", "3.1"), ("cvssV3_0", "3.0"), ("cvssV2_0", "2.0"))


@dataclass(frozen=True, slots=True)
class _Record:
    vulnerability: Vulnerability
    updated_at: datetime | None


def parse_archive(source: FeedInput) -> Feed:
    """Return the records of a zip archive. Raises InputError."""
    return parse_documents(json_documents(source.file, source.name), source.name, source.now)


def parse_documents(documents: Iterable[tuple[str, bytes]], what: str, now: datetime) -> Feed:
    """Return the records among (place for messages, JSON content). Raises InputError.

    All of them are held in memory (0.4 kB each), because the newest one dates the edition.
    """
    records: dict[str, Vulnerability] = {}
    newest: datetime | None = None
    for place, content in documents:
        document = load_json(content, place)
        if not isinstance(document, dict) or document.get("dataType") != _DATA_TYPE:
            continue
        record = _record(document, NAME, place)
        records[record.vulnerability.vulnerability] = record.vulnerability
        if record.updated_at and record.updated_at <= now + MAX_CLOCK_SKEW:
            newest = max(record.updated_at, newest or record.updated_at)
        if len(records) > MAX_RECORDS:
            raise InputError(f"{what}: more than {MAX_RECORDS} CVE records")
    if newest is None:
        raise InputError(f"{what}: holds no CVE record with a date")
    return Feed(_header(NAME, newest), iter(records.values()))


def parse_record(source: FeedInput) -> Feed:
    """Return a single record, a feed of its own ("cve:CVE-2024-1234"). Raises InputError."""
    data = read_all(source.file, MAX_MEMBER_BYTES, source.name)
    document = fields.as_object(load_json(data, source.name), source.name)
    if document.get("dataType") != _DATA_TYPE:
        raise InputError(f"{source.name}: no CVE record: its dataType is not {_DATA_TYPE}")
    metadata = fields.as_object(document.get("cveMetadata"), f"{source.name}: cveMetadata")
    name = f"{NAME}:{fields.cve_number(metadata.get('cveId'), source.name)}"
    record = _record(document, name, source.name)
    if record.updated_at is None:
        raise InputError(f"{source.name}: {name} has no date")
    check_not_ahead(record.updated_at, source.now, source.name)
    return Feed(_header(name, record.updated_at), iter([record.vulnerability]))


def _header(name: str, newest: datetime) -> FeedHeader:
    return FeedHeader(
        name=name,
        serial=serial_of(newest),
        published_at=newest,
        valid_until=None,
        max_age_s=ages.CVE_S,
    )


def _record(document: Mapping[str, Json], feed: str, place: str) -> _Record:
    version = fields.as_text(document.get("dataVersion"), f"{place}: dataVersion")
    if version.partition(".")[0] != "5":
        raise UnsupportedError(
            f"{place}: CVE record format {ascii(version)[:40]}; this version of Undercroft reads format 5"
        )
    metadata = fields.as_object(document.get("cveMetadata"), f"{place}: cveMetadata")
    containers = fields.as_object(document.get("containers") or {}, f"{place}: containers")
    cna = fields.as_object(containers.get("cna") or {}, f"{place}: cna")
    adp = fields.as_objects(containers.get("adp"), f"{place}: adp")
    rejected = metadata.get("state") == "REJECTED"
    severity, severity_source = (Severity.UNKNOWN, "") if rejected else _severity([cna, *adp], place)
    vulnerability = Vulnerability(
        feed=feed,
        vulnerability=fields.cve_number(metadata.get("cveId"), place),
        severity=severity,
        severity_source=severity_source,
        published_on=fields.optional_day(metadata.get("datePublished"), f"{place}: datePublished"),
        title=_title(cna, place),
        rejected=rejected,
    )
    dates = [metadata.get(key) for key in ("dateUpdated", "datePublished", "dateReserved")]
    date = next((value for value in dates if value is not None), None)
    return _Record(vulnerability, None if date is None else fields.moment(date, f"{place}: dateUpdated"))


def _title(cna: Mapping[str, Json], place: str) -> str:
    if title := fields.title(fields.as_text(cna.get("title"), f"{place}: title")):
        return title
    for key in ("descriptions", "rejectedReasons"):
        for description in fields.as_objects(cna.get(key), f"{place}: {key}"):
            if fields.as_text(description.get("lang"), place).lower().startswith("en"):
                return fields.title(fields.as_text(description.get("value"), place))
    return ""


def _severity(containers: list[Mapping[str, Json]], place: str) -> tuple[Severity, str]:
    for container in containers:
        metrics = fields.as_objects(container.get("metrics"), f"{place}: metrics")
        for severity, source in _ratings(metrics, place):
            if severity is not Severity.UNKNOWN:
                return severity, f"cve:{source}"
    return Severity.UNKNOWN, ""


def _ratings(metrics: list[Mapping[str, Json]], place: str) -> Iterator[tuple[Severity, str]]:
    for key, version in _METRICS:
        for metric in metrics:
            if key in metric:
                rating = fields.as_object(metric[key], f"{place}: {key}")
                yield cvss_severity(fields.as_text(rating.get("vectorString"), f"{place}: {key}"))
                score = rating.get("baseScore")
                if isinstance(score, (int, float)) and not isinstance(score, bool):
                    yield rated(score, version)
