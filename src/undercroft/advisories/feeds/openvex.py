"""The user's own OpenVEX documents.

Follows https://github.com/openvex/spec, versions 0.x. Guarantees: `not_affected` without a justification
or an impact statement is refused, as the specification demands; a statement about a subcomponent of a
product names the product only, so it never silences the component everywhere. Each document is a feed of
its own, named by its @id. Canonical's documents are its word on Ubuntu and go to `ubuntu_vex`.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime

from undercroft.advisories.feeds import ages, fields, ubuntu_vex
from undercroft.advisories.feeds.bounded import load_json, read_all
from undercroft.advisories.feeds.feed import Feed, FeedInput, check_not_ahead, serial_of
from undercroft.advisories.records import FeedHeader, VexStatement, VexStatus
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.schema import Json

MAX_BYTES = 32 << 20
MAX_NAME_CHARS = 1024

CONTEXT = "https://openvex.dev/ns"


def parse(source: FeedInput) -> Feed:
    """Return the document's statements. Raises InputError."""
    data = read_all(source.file, MAX_BYTES, source.name)
    document = fields.as_object(load_json(data, source.name), source.name)
    _check_version(document, source.name)
    if ubuntu_vex.is_canonicals(document):
        return ubuntu_vex.parse_document(document, source)
    ident = _name(document.get("@id"), f"{source.name}: @id")
    written_at = fields.moment(
        document.get("last_updated") or document.get("timestamp"), f"{source.name}: timestamp"
    )
    check_not_ahead(written_at, source.now, source.name)
    version = document.get("version", 1)
    if not isinstance(version, (int, str)) or not str(version).isascii() or len(str(version)) > 9:
        raise InputError(f"{source.name}: version is neither a number nor a short text")
    header = FeedHeader(
        name=f"openvex:{ident}",
        serial=f"{serial_of(written_at)} {str(version).zfill(9)}",
        published_at=written_at,
        valid_until=None,
        max_age_s=ages.OPENVEX_S,
    )
    return Feed(header, iter(list(_statements(document, ident, written_at, source.name))))


def _check_version(document: Mapping[str, Json], what: str) -> None:
    context = fields.as_text(document.get("@context"), f"{what}: @context")
    version = context.removeprefix(CONTEXT).strip("/")
    if not context.startswith(CONTEXT):
        raise InputError(f"{what}: its @context is not {CONTEXT}")
    if version and not version.startswith("v0."):
        raise UnsupportedError(
            f"{what}: OpenVEX {ascii(version)[:40]}; this version of Undercroft reads 0.x, update it"
        )


def _name(value: object, place: str) -> str:
    text = fields.as_text(value, place)
    if not text or len(text) > MAX_NAME_CHARS or not text.isprintable():
        raise InputError(f"{place}: empty, unprintable, or longer than {MAX_NAME_CHARS} characters")
    return text


def _statements(
    document: Mapping[str, Json], ident: str, written_at: datetime, what: str
) -> Iterator[VexStatement]:
    for number, statement in enumerate(fields.as_objects(document.get("statements"), f"{what}: statements")):
        place = f"{what}: statement {number}"
        status = _status(statement, place)
        timestamp = statement.get("timestamp")
        yield VexStatement(
            document=ident,
            vulnerability=_vulnerability(statement.get("vulnerability"), place),
            products=tuple(_products(statement, place)),
            status=status,
            justification=fields.title(
                fields.as_text(statement.get("justification"), place)
                or fields.as_text(statement.get("impact_statement"), place)
            ),
            timestamp=written_at if timestamp is None else fields.moment(timestamp, f"{place}: timestamp"),
        )


def _status(statement: Mapping[str, Json], place: str) -> VexStatus:
    try:
        status = VexStatus(fields.as_text(statement.get("status"), f"{place}: status"))
    except ValueError as error:
        raise InputError(
            f"{place}: its status is not one of {', '.join(member.value for member in VexStatus)}"
        ) from error
    justified = statement.get("justification") or statement.get("impact_statement")
    if status is VexStatus.NOT_AFFECTED and not justified:
        raise InputError(f"{place}: not_affected needs a justification or an impact_statement")
    return status


def _vulnerability(value: Json, place: str) -> str:
    """Return the CVE number, else the name, of a vulnerability: a text (0.0.x) or an object."""
    if isinstance(value, str):
        return fields.ident(value, place)
    vulnerability = fields.as_object(value, f"{place}: vulnerability")
    aliases = fields.as_texts(vulnerability.get("aliases"), f"{place}: aliases")
    names = [fields.as_text(vulnerability.get("name"), place), *aliases]
    return next((name for name in names if fields.is_cve_number(name)), "") or fields.ident(names[0], place)


def _products(statement: Mapping[str, Json], place: str) -> Iterator[str]:
    for product in fields.as_list(statement.get("products"), f"{place}: products"):
        if isinstance(product, str):
            yield _name(product, f"{place}: product")
            continue
        component = fields.as_object(product, f"{place}: product")
        identifiers = fields.as_object(component.get("identifiers") or {}, f"{place}: identifiers")
        yield _name(identifiers.get("purl") or component.get("@id"), f"{place}: product")
