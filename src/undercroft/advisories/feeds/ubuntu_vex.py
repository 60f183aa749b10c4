"""Canonical's OpenVEX documents: what Ubuntu says of one vulnerability, ESM included.

Follows OpenVEX 0.2 as Canonical publishes it: a product is a source package's URL with the release as its
distro ("pkg:deb/ubuntu/openssl@3.0.2-0ubuntu1.15?arch=source&distro=jammy"; "distro=esm-infra/bionic" and
"esm-apps/..." are ESM). The version of a product that is fixed is the first fixed one; of others it is the
one that was looked at, and counts for nothing. Other archives (FIPS, real-time) are passed over.

These are a publisher's statements, not the user's own: they judge versions, and take no finding away.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import parse_qsl, unquote

from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.archives import documents_in
from undercroft.advisories.feeds.bounded import load_json
from undercroft.advisories.feeds.feed import Feed, FeedInput, check_not_ahead
from undercroft.advisories.feeds.headers import Survey, dated
from undercroft.advisories.feeds.releases import UBUNTU_CODENAMES
from undercroft.advisories.records import Advisory, Status
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.schema import Json

NAME = "ubuntu-vex"
MIN_COMPLETE_DOCUMENTS = 1000
"""From how many documents on an archive counts as Canonical's whole word on a release."""

_AUTHOR = "Canonical Ltd."
_PREFIX = "pkg:deb/ubuntu/"
_ESM = ("esm-infra/", "esm-apps/")
_STATUSES = {
    "fixed": Status.FIXED,
    "affected": Status.UNFIXED,
    "not_affected": Status.NOT_AFFECTED,
    "under_investigation": Status.INVESTIGATED,
}


@dataclass(frozen=True, slots=True)
class _Document:
    written_at: datetime
    content: Mapping[str, Json]
    place: str


def is_canonicals(document: Mapping[str, Json]) -> bool:
    """Tell whether an OpenVEX document is Canonical's."""
    return document.get("author") == _AUTHOR


def parse_document(untrusted: Mapping[str, Json], source: FeedInput) -> Feed:
    """Return the statements of one document, a feed of its own. Raises InputError."""
    document = _document(untrusted, source.name)
    check_not_ahead(document.written_at, source.now, source.name)
    advisories = list(_advisories(document, NAME))
    names = sorted({advisory.vulnerability for advisory in advisories})
    if not names:
        raise UnsupportedError(f"{source.name}: names no release of Ubuntu that is read")
    name = f"{NAME}:{names[0]}"
    releases = [advisory.release for advisory in advisories]
    header = dated(name, document.written_at, ages.OSV_RECORD_S, releases)
    return Feed(header, _advisories(document, name))


def parse_archive(source: FeedInput) -> Feed:
    """Return the statements of an archive of documents. Raises InputError, also while they are taken."""
    survey = Survey(source.now)
    for document in _documents(source):
        survey.add(document.written_at, [advisory.release for advisory in _advisories(document, NAME)])
    if survey.newest is None or not survey.about:
        raise UnsupportedError(f"{source.name}: holds no OpenVEX document of Canonical's about a release")
    complete = survey.with_at_least(MIN_COMPLETE_DOCUMENTS)
    header = dated(NAME, survey.newest, ages.OSV_ARCHIVE_S, survey.about, complete_for=complete)
    return Feed(header, (found for document in _documents(source) for found in _advisories(document, NAME)))


def _documents(source: FeedInput) -> Iterator[_Document]:
    for place, content in documents_in(source.file, source.name):
        untrusted = fields.as_object(load_json(content, place), place)
        if not is_canonicals(untrusted):
            raise InputError(f"{place}: an archive of OpenVEX documents is read from {_AUTHOR} only")
        yield _document(untrusted, place)


def _document(untrusted: Mapping[str, Json], place: str) -> _Document:
    moment = untrusted.get("last_updated") or untrusted.get("timestamp")
    return _Document(fields.moment(moment, f"{place}: timestamp"), untrusted, place)


def _advisories(document: _Document, feed: str) -> Iterator[Advisory]:
    statements = fields.as_objects(document.content.get("statements"), f"{document.place}: statements")
    for statement in statements:
        place = f"{document.place}: statement"
        word = fields.as_text(statement.get("status"), f"{place}: status")
        status = _STATUSES.get(word)
        if status is None:
            raise InputError(f"{place}: unknown status {ascii(word)[:80]}")
        about = fields.as_object(statement.get("vulnerability"), f"{place}: vulnerability")
        vulnerability = fields.ident(about.get("name"), f"{place}: name")
        title = fields.title(fields.as_text(about.get("description"), f"{place}: description"))
        for product in fields.as_objects(statement.get("products"), f"{place}: products"):
            found = _product(fields.as_text(product.get("@id"), f"{place}: product"), place)
            if found is None:
                continue
            release, stream, package, version = found
            has_fix = status is Status.FIXED and version
            yield Advisory(
                feed=feed,
                release=release,
                source=package,
                vulnerability=vulnerability,
                advisory="",
                status=Status.UNDETERMINED if status is Status.FIXED and not version else status,
                fixed_version=version if has_fix else "",
                stream=stream,
                title=title,
            )


def _product(purl: str, place: str) -> tuple[str, str, str, str] | None:
    """Return (release, stream, source package, version) of a product, None for one that is not read."""
    if not purl.startswith(_PREFIX):
        return None
    path, _, query = purl.removeprefix(_PREFIX).partition("?")
    qualifiers = dict(parse_qsl(query, max_num_fields=32))
    distro = qualifiers.get("distro", "")
    codename = distro.rpartition("/")[2]
    if qualifiers.get("arch") != "source" or codename not in UBUNTU_CODENAMES:
        return None
    if "/" in distro and not distro.startswith(_ESM):
        return None
    name, _, version = path.partition("@")
    version = unquote(version)
    return (
        f"ubuntu:{UBUNTU_CODENAMES[codename]}",
        "esm" if "/" in distro else "",
        fields.package(unquote(name), place),
        fields.version(version, place) if version else "",
    )
