"""Microsoft's security updates, by build: CSAF documents of one CVE, and the monthly CVRF as JSON.

Follows CSAF 2.0 as msrc.microsoft.com publishes it (a product has a branch "<10.0.20348.2113" that is
affected, and one "10.0.20348.2113" that is fixed) and the API's CVRF 3.0 (`Vulnerability[].Remediations[]`
with `FixedBuild` and `ProductID`). Only Windows itself is read: a build's first three numbers are its
release ("windows:10.0.20348"), its product's name tells a server from a client. Updates are cumulative, so
that a later build holds every earlier fix; a product without a build is passed over.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.archives import MAX_MEMBER_BYTES, documents_in
from undercroft.advisories.feeds.bounded import load_json, read_all
from undercroft.advisories.feeds.feed import Feed, FeedInput, check_not_ahead
from undercroft.advisories.feeds.headers import Survey, dated
from undercroft.advisories.feeds.severity import cvss_severity
from undercroft.advisories.records import Advisory, Status
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.finding import Severity
from undercroft.model.schema import Json

NAME = "microsoft"
MIN_LISTED_DOCUMENTS = 12
"""A year of monthly documents: fewer in an archive are an excerpt."""
MAX_DEPTH = 16
MAX_PRODUCTS = 100_000

_NAMESPACE = "https://msrc.microsoft.com"
_BUILD = re.compile(r"(?P<release>[0-9]{1,2}\.[0-9]\.[0-9]{4,6})\.[0-9]{1,6}")
_SEVERITY_THREAT = 3  # CVRF's Threats[].Type


@dataclass(frozen=True, slots=True)
class _Fix:
    """One build that fixes one vulnerability in servers or clients."""

    vulnerability: str
    product: str
    build: str
    severity: Severity
    severity_source: str
    title: str


@dataclass(frozen=True, slots=True)
class _Document:
    ident: str
    written_at: datetime
    published_on: date | None
    fixes: list[_Fix]


def is_microsoft(seen: Mapping[str, object]) -> bool:
    """Tell whether the first members of a JSON object are those of a document of Microsoft's."""
    meta = seen.get("document")
    publisher = meta.get("publisher") if isinstance(meta, dict) else None
    if isinstance(publisher, dict):
        return str(publisher.get("namespace", "")).rstrip("/") == _NAMESPACE
    return "DocumentTracking" in seen and "DocumentTitle" in seen


def parse(source: FeedInput) -> Feed:
    """Return the statements of one document. Raises InputError."""
    data = read_all(source.file, MAX_MEMBER_BYTES, source.name)
    document = _document(load_json(data, source.name), source.name)
    check_not_ahead(document.written_at, source.now, source.name)
    name = f"{NAME}:{document.ident}"
    advisories = list(_advisories(document, name))
    if not advisories:
        raise UnsupportedError(f"{source.name}: names no build of Windows that fixes anything")
    releases = [advisory.release for advisory in advisories]
    return Feed(dated(name, document.written_at, ages.MICROSOFT_S, releases), iter(advisories))


def parse_archive(source: FeedInput) -> Feed:
    """Return the statements of an archive of documents. Raises InputError."""
    survey = Survey(source.now)
    for document in _documents(source):
        survey.add(document.written_at, [_release(fix.build) for fix in document.fixes])
    if survey.newest is None or not survey.about:
        raise UnsupportedError(f"{source.name}: names no build of Windows that fixes anything")
    listed = survey.with_at_least(MIN_LISTED_DOCUMENTS)
    header = dated(NAME, survey.newest, ages.MICROSOFT_S, survey.about, listed_for=listed)
    return Feed(header, (found for document in _documents(source) for found in _advisories(document, NAME)))


def _documents(source: FeedInput) -> Iterator[_Document]:
    for place, content in documents_in(source.file, source.name):
        yield _document(load_json(content, place), place)


def _document(untrusted: Json, place: str) -> _Document:
    content = fields.as_object(untrusted, place)
    return _csaf(content, place) if "document" in content else _cvrf(content, place)


def _advisories(document: _Document, feed: str) -> Iterator[Advisory]:
    for fix in dict.fromkeys(document.fixes):
        yield Advisory(
            feed=feed,
            release=_release(fix.build),
            source=fix.product,
            vulnerability=fix.vulnerability,
            advisory=document.ident,
            status=Status.FIXED,
            fixed_version=fix.build,
            published_on=document.published_on,
            severity=fix.severity,
            severity_source=fix.severity_source,
            title=fix.title,
        )


def _release(build: str) -> str:
    return f"windows:{build.rpartition('.')[0]}"


def _product(name: str) -> str:
    """Return what matching calls a product of Windows by its name, "" for any other product."""
    if not name.startswith("Windows "):
        return ""
    return "windows-server" if "Server" in name else "windows"


def _csaf(content: Mapping[str, Json], place: str) -> _Document:
    meta = fields.as_object(content["document"], f"{place}: document")
    tracking = fields.as_object(meta.get("tracking"), f"{place}: tracking")
    builds = _csaf_builds(fields.as_object(content.get("product_tree") or {}, place), place)
    fixes = []
    for vulnerability in fields.as_objects(content.get("vulnerabilities"), f"{place}: vulnerabilities"):
        ident = fields.cve_number(vulnerability.get("cve"), f"{place}: cve")
        title = fields.title(fields.as_text(vulnerability.get("title") or meta.get("title"), place))
        severity = _csaf_severity(vulnerability, place)
        statuses = fields.as_object(vulnerability.get("product_status") or {}, f"{place}: product_status")
        fixes += [
            _Fix(ident, *builds[product_id], *severity, title)
            for product_id in fields.as_texts(statuses.get("fixed"), f"{place}: fixed")
            if product_id in builds
        ]
    return _Document(
        fields.ident(tracking.get("id"), f"{place}: id"),
        fields.moment(tracking.get("current_release_date"), f"{place}: current_release_date"),
        fields.optional_day(tracking.get("initial_release_date"), place),
        fixes,
    )


def _csaf_builds(untrusted_tree: Mapping[str, Json], place: str) -> dict[str, tuple[str, str]]:
    """Return (product, build) of each product id that is a build of Windows."""
    found: dict[str, tuple[str, str]] = {}
    waiting = [(branch, "", 1) for branch in fields.as_objects(untrusted_tree.get("branches"), place)]
    for _ in range(MAX_PRODUCTS):
        if not waiting:
            return found
        branch, above, depth = waiting.pop()
        name = fields.as_text(branch.get("name"), f"{place}: name")
        if depth > MAX_DEPTH:
            raise InputError(f"{place}: a product tree deeper than {MAX_DEPTH}")
        product = fields.as_object(branch.get("product") or {}, f"{place}: product")
        ident = fields.as_text(product.get("product_id"), f"{place}: product_id")
        if ident and _BUILD.fullmatch(name) and _product(above):
            found[ident] = (_product(above), name)
        inner = fields.as_objects(branch.get("branches"), f"{place}: branches")
        waiting += [(child, name if _product(name) else above, depth + 1) for child in inner]
    raise InputError(f"{place}: more than {MAX_PRODUCTS} products")


def _csaf_severity(vulnerability: Mapping[str, Json], place: str) -> tuple[Severity, str]:
    for threat in fields.as_objects(vulnerability.get("threats"), f"{place}: threats"):
        severity = fields.severity_word(fields.as_text(threat.get("details"), place))
        if threat.get("category") == "impact" and severity is not Severity.UNKNOWN:
            return severity, f"{NAME}:severity"
    for score in fields.as_objects(vulnerability.get("scores"), f"{place}: scores"):
        vector = fields.as_object(score.get("cvss_v3") or {}, f"{place}: cvss_v3").get("vectorString")
        severity, by = cvss_severity(fields.as_text(vector, place))
        if severity is not Severity.UNKNOWN:
            return severity, f"{NAME}:{by}"
    return Severity.UNKNOWN, ""


def _cvrf(content: Mapping[str, Json], place: str) -> _Document:
    tracking = fields.as_object(content.get("DocumentTracking"), f"{place}: DocumentTracking")
    identification = fields.as_object(tracking.get("Identification"), f"{place}: Identification")
    tree = fields.as_object(content.get("ProductTree") or {}, f"{place}: ProductTree")
    products = {
        fields.as_text(entry.get("ProductID"), place): _product(fields.as_text(entry.get("Value"), place))
        for entry in fields.as_objects(tree.get("FullProductName"), f"{place}: FullProductName")
    }
    fixes = [
        fix
        for vulnerability in fields.as_objects(content.get("Vulnerability"), f"{place}: Vulnerability")
        for fix in _cvrf_fixes(vulnerability, products, place)
    ]
    return _Document(
        fields.ident(_value(identification.get("ID"), place), f"{place}: ID"),
        fields.moment(tracking.get("CurrentReleaseDate"), f"{place}: CurrentReleaseDate"),
        fields.optional_day(tracking.get("InitialReleaseDate"), place),
        fixes,
    )


def _cvrf_fixes(vulnerability: Mapping[str, Json], products: Mapping[str, str], place: str) -> Iterator[_Fix]:
    ident = fields.ident(vulnerability.get("CVE"), f"{place}: CVE")
    title = fields.title(_value(vulnerability.get("Title"), place))
    rated: dict[str, Severity] = {}
    for threat in fields.as_objects(vulnerability.get("Threats"), f"{place}: Threats"):
        if threat.get("Type") == _SEVERITY_THREAT:
            word = fields.severity_word(_value(threat.get("Description"), place))
            rated |= dict.fromkeys(fields.as_texts(threat.get("ProductID"), f"{place}: ProductID"), word)
    for remedy in fields.as_objects(vulnerability.get("Remediations"), f"{place}: Remediations"):
        build = fields.as_text(remedy.get("FixedBuild"), f"{place}: FixedBuild")
        if not _BUILD.fullmatch(build):
            continue  # another product's kind of version, or none
        for product_id in fields.as_texts(remedy.get("ProductID"), f"{place}: ProductID"):
            if product := products.get(product_id, ""):
                severity = rated.get(product_id, Severity.UNKNOWN)
                by = "" if severity is Severity.UNKNOWN else f"{NAME}:severity"
                yield _Fix(ident, product, build, severity, by, title)


def _value(member: Json, place: str) -> str:
    """Return the text of CVRF's {"Value": ...}."""
    return fields.as_text(fields.as_object(member or {}, place).get("Value"), place)
