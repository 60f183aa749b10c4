"""CSAF documents of Red Hat and SUSE: advisories, and VEX documents with one vulnerability each.

Follows CSAF 2.0 (OASIS) and each publisher's use of it; `csaf_products` reads the product tree. What their
statuses mean:

| status | remediation | here |
|---|---|---|
| fixed, recommended, first_fixed | | fixed in the product's version |
| known_affected | no_fix_planned, "Out of support scope" | out of support |
| known_affected | no_fix_planned | will not be fixed |
| known_affected | none_available, a fix deferred, or none | unfixed |
| under_investigation | | under investigation |
| known_not_affected | | not affected |

A document is a feed of its own; an archive of VEX documents speaks for the releases that enough of them
name. In an archive, "not affected" is kept only where the document says something else of the release too:
the others are hundreds of names for each vulnerability that nothing is said against.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime

from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.archives import MAX_MEMBER_BYTES, documents_in
from undercroft.advisories.feeds.bounded import load_json, read_all
from undercroft.advisories.feeds.csaf_products import Product, ProductTree, flattened
from undercroft.advisories.feeds.feed import Feed, FeedInput, check_not_ahead
from undercroft.advisories.feeds.headers import Survey, dated
from undercroft.advisories.feeds.severity import cvss_severity
from undercroft.advisories.records import Advisory, Status, subject_name
from undercroft.errors import UnsupportedError
from undercroft.model.finding import Severity
from undercroft.model.schema import Json

MIN_COMPLETE_DOCUMENTS = 1000
"""From how many VEX documents on an archive counts as the publisher's whole word on a release."""
MIN_LISTED_DOCUMENTS = 50

_PUBLISHERS = {"www.redhat.com": "redhat", "www.suse.com": "suse"}
_NAMESPACE = re.compile(r"https://([a-z.]+)/?")
_VEX = "csaf_vex"
_ADVISORY = "csaf_security_advisory"
_ERRATUM = re.compile(r"(?:RHSA|RHBA|RHEA)-[0-9]{4}:[0-9]{3,6}|(?:open)?SUSE-[SRFO]U-[0-9]{4}:[0-9]+-[0-9]+")

_STATUSES = {
    "fixed": Status.FIXED,
    "recommended": Status.FIXED,
    "first_fixed": Status.FIXED,
    "known_affected": Status.UNFIXED,
    "first_affected": Status.UNFIXED,
    "last_affected": Status.UNFIXED,
    "under_investigation": Status.INVESTIGATED,
    "known_not_affected": Status.NOT_AFFECTED,
}


@dataclass(frozen=True, slots=True)
class Document:
    """One document, checked as far as all have it in common.

    Attributes:
        publisher: "redhat" or "suse".
        kind: "vex" or "csaf".
        ident: of the document: a CVE number, or an advisory's id.
    """

    publisher: str
    kind: str
    ident: str
    title: str
    written_at: datetime
    published_on: date | None
    tree: ProductTree
    vulnerabilities: list[Mapping[str, Json]]
    place: str


def parse(source: FeedInput) -> Feed:
    """Return the statements of one document. Raises InputError."""
    data = read_all(source.file, MAX_MEMBER_BYTES, source.name)
    document = _document(load_json(data, source.name), source.name)
    check_not_ahead(document.written_at, source.now, source.name)
    name = f"{document.publisher}-{document.kind}:{document.ident}"
    advisories = list(_advisories(document, name))
    releases = document.tree.releases()
    if not releases:
        raise UnsupportedError(f"{source.name}: none of its products is of a release that is read")
    return Feed(dated(name, document.written_at, ages.OSV_RECORD_S, releases), iter(advisories))


def parse_archive(source: FeedInput) -> Feed:
    """Return the statements of an archive of documents. Raises InputError, also while they are taken."""
    survey = Survey(source.now)
    kinds: set[str] = set()
    for document in _documents(source):
        kinds.add(f"{document.publisher}-{document.kind}")
        survey.add(document.written_at, document.tree.releases())
    if survey.newest is None or not survey.about or len(kinds) != 1:
        raise UnsupportedError(
            f"{source.name}: holds no CSAF documents of one publisher and sort about releases that are read"
        )
    (name,) = kinds
    is_complete = name.endswith("-vex")
    header = dated(
        name,
        survey.newest,
        ages.OSV_ARCHIVE_S,
        survey.about,
        complete_for=survey.with_at_least(MIN_COMPLETE_DOCUMENTS) if is_complete else (),
        listed_for=() if is_complete else survey.with_at_least(MIN_LISTED_DOCUMENTS),
    )
    return Feed(header, (found for document in _documents(source) for found in _thinned(document, name)))


def _documents(source: FeedInput) -> Iterator[Document]:
    for place, content in documents_in(source.file, source.name):
        yield _document(load_json(content, place), place)


def _document(untrusted: Json, place: str) -> Document:
    content = fields.as_object(untrusted, place)
    meta = fields.as_object(content.get("document"), f"{place}: document")
    category = fields.as_text(meta.get("category"), f"{place}: category")
    if not fields.as_text(meta.get("csaf_version"), place).startswith("2.") or category not in {
        _VEX,
        _ADVISORY,
    }:
        raise UnsupportedError(f"{place}: no CSAF 2 advisory or VEX document: {ascii(category)[:40]}")
    tracking = fields.as_object(meta.get("tracking"), f"{place}: tracking")
    publisher = fields.as_object(meta.get("publisher"), f"{place}: publisher")
    namespace = _NAMESPACE.fullmatch(fields.as_text(publisher.get("namespace"), place))
    known = _PUBLISHERS.get(namespace[1]) if namespace else None
    if known is None:
        raise UnsupportedError(f"{place}: CSAF documents of Red Hat and SUSE are read, this is another's")
    tree = fields.as_object(content.get("product_tree") or {}, f"{place}: product_tree")
    return Document(
        publisher=known,
        kind="vex" if category == _VEX else "csaf",
        ident=fields.ident(tracking.get("id"), f"{place}: id"),
        title=fields.title(fields.as_text(meta.get("title"), f"{place}: title")),
        written_at=fields.moment(tracking.get("current_release_date"), f"{place}: current_release_date"),
        published_on=fields.optional_day(tracking.get("initial_release_date"), place),
        tree=ProductTree(tree, place),
        vulnerabilities=fields.as_objects(content.get("vulnerabilities"), f"{place}: vulnerabilities"),
        place=place,
    )


def _thinned(document: Document, feed: str) -> list[Advisory]:
    """Return the document's statements without what is not affected in releases that nothing affects."""
    found = list(_advisories(document, feed))
    affected = {item.release for item in found if item.status is not Status.NOT_AFFECTED}
    return [item for item in found if item.release in affected]


def _advisories(document: Document, feed: str) -> Iterator[Advisory]:
    for vulnerability in document.vulnerabilities:
        seen: set[tuple[object, ...]] = set()
        for advisory in _about(document, vulnerability, feed):
            key = (
                advisory.release,
                advisory.source,
                advisory.status,
                advisory.fixed_version,
                advisory.stream,
            )
            if key not in seen:  # one build for each architecture
                seen.add(key)
                yield advisory


def _about(document: Document, vulnerability: Mapping[str, Json], feed: str) -> Iterator[Advisory]:
    place = f"{document.place}: vulnerability"
    ident = _ident(vulnerability, document, place)
    title = fields.title(fields.as_text(vulnerability.get("title"), place)) or document.title
    severity, severity_source = _severity(document, vulnerability, place)
    remedies = _Remedies(document, vulnerability, place)
    disclosed_on = fields.optional_day(vulnerability.get("release_date"), place) or document.published_on
    statuses = fields.as_object(vulnerability.get("product_status") or {}, f"{place}: product_status")
    for word, products in statuses.items():
        listed_status = _STATUSES.get(word)
        if listed_status is None:
            continue
        for product_id in fields.as_texts(products, f"{place}: {word}"):
            product = document.tree.product(product_id)
            if product is None or (product.stream and listed_status is not Status.FIXED):
                continue
            status, advisory, fixed_on = remedies.of(product_id, listed_status, product)
            for name in _subjects(product):
                yield Advisory(
                    feed=feed,
                    release=product.release,
                    source=name,
                    vulnerability=ident,
                    advisory=advisory or ("" if document.kind == "vex" else document.ident),
                    status=status,
                    fixed_version=product.version if status is Status.FIXED else "",
                    stream=product.stream,
                    published_on=fixed_on or disclosed_on,
                    severity=severity,
                    severity_source=severity_source,
                    title=title,
                )


def _subjects(product: Product) -> Iterable[str]:
    """Yield what a product is called; one without an architecture is both a source and a binary package."""
    if product.architecture != "src":
        yield subject_name(product.package, binary=True, module=product.module)
    if product.architecture in {"", "src"}:
        yield subject_name(product.package, module=product.module)


def _ident(vulnerability: Mapping[str, Json], document: Document, place: str) -> str:
    cve = fields.as_text(vulnerability.get("cve"), f"{place}: cve")
    return fields.cve_number(cve, place) if cve else document.ident


class _Remedies:
    """What a vulnerability's remediations say of its products."""

    def __init__(self, document: Document, vulnerability: Mapping[str, Json], place: str) -> None:
        self._without_fix: dict[str, Status] = {}
        self._errata: dict[str, tuple[str, date | None]] = {}
        for entry in fields.as_objects(vulnerability.get("remediations"), f"{place}: remediations"):
            category = fields.as_text(entry.get("category"), place)
            details = fields.as_text(entry.get("details"), place).lower()
            for product_id in flattened(document.tree.groups, entry, place):
                if category == "no_fix_planned":
                    ended = "out of support" in details
                    self._without_fix[product_id] = Status.OUT_OF_SUPPORT if ended else Status.WILL_NOT_FIX
                elif category == "vendor_fix":
                    erratum = _ERRATUM.search(fields.as_text(entry.get("url"), place).replace("%3A", ":"))
                    day = fields.optional_day(entry.get("date"), place)
                    self._errata[product_id] = (erratum[0] if erratum else "", day)

    def of(self, product_id: str, listed: Status, product: Product) -> tuple[Status, str, date | None]:
        """Return (status, advisory, day of the fix) of a product that is listed with a status."""
        if listed is Status.FIXED:
            advisory, fixed_on = self._errata.get(product_id, ("", None))
            return (listed if product.version else Status.UNDETERMINED), advisory, fixed_on
        if listed is Status.UNFIXED:
            return self._without_fix.get(product_id, listed), "", None
        return listed, "", None


def _severity(document: Document, vulnerability: Mapping[str, Json], place: str) -> tuple[Severity, str]:
    """Return the publisher's own word for the impact, else the CVSS score that it gives."""
    for threat in fields.as_objects(vulnerability.get("threats"), f"{place}: threats"):
        if threat.get("category") == "impact":
            severity = fields.severity_word(fields.as_text(threat.get("details"), place))
            if severity is not Severity.UNKNOWN:
                return severity, f"{document.publisher}:impact"
    for score in fields.as_objects(vulnerability.get("scores"), f"{place}: scores"):
        for name in ("cvss_v4", "cvss_v3", "cvss_v2"):
            vector = fields.as_object(score.get(name) or {}, f"{place}: {name}").get("vectorString")
            severity, by = cvss_severity(fields.as_text(vector, place))
            if severity is not Severity.UNKNOWN:
                return severity, f"{document.publisher}:{by}"
    return Severity.UNKNOWN, ""


def is_csaf(seen: Mapping[str, object]) -> bool:
    """Tell whether the first members of a JSON object are those of a CSAF document."""
    meta = seen.get("document")
    return isinstance(meta, dict) and "csaf_version" in meta
