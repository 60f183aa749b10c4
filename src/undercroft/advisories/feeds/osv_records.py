"""OSV records, checked as far as every ecosystem shares it, and what each is about."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from undercroft.advisories.feeds import fields
from undercroft.advisories.feeds.archives import json_documents
from undercroft.advisories.feeds.bounded import load_json
from undercroft.advisories.feeds.feed import FeedInput
from undercroft.advisories.feeds.releases import osv_release
from undercroft.errors import UnsupportedError
from undercroft.model.schema import Json

PER_VULNERABILITY = ("DEBIAN-CVE-", "UBUNTU-CVE-", "ALPINE-CVE-")
"""What ids of records begin with that are about one vulnerability, and no advisory's."""
_LIVEPATCH = "LSN-"


@dataclass(frozen=True, slots=True)
class OsvRecord:
    """One record, checked as far as every ecosystem shares it."""

    ident: str
    modified_at: datetime
    withdrawn: bool
    document: Mapping[str, Json]
    place: str


def archive_records(source: FeedInput) -> Iterator[OsvRecord]:
    """Yield the records of an archive, whatever their ecosystem. Raises InputError."""
    for place, content in json_documents(source.file, source.name):
        yield read_record(load_json(content, place), place)


def read_record(document: Json, place: str) -> OsvRecord:
    """Return a record. Raises InputError."""
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


def affected_in(record: OsvRecord) -> Iterator[tuple[Mapping[str, Json], str, str]]:
    """Yield (affected object, release, stream) of what the record says about what is read."""
    if record.ident.startswith(_LIVEPATCH):
        return  # livepatches are patched in memory: no package version fixes or shows them
    for affected in fields.as_objects(record.document.get("affected"), f"{record.place}: affected"):
        package = fields.as_object(affected.get("package") or {}, f"{record.place}: package")
        place = f"{record.place}: ecosystem"
        if found := osv_release(fields.as_text(package.get("ecosystem"), place)):
            yield affected, *found
