"""CISA's catalog of known exploited vulnerabilities, as JSON.

Follows https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities_schema.json.
Guarantees: as many entries as `count` says, one record per CVE number, dated by its first entry.
"""

from collections.abc import Mapping

from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.bounded import load_json, read_all
from undercroft.advisories.feeds.feed import Feed, FeedInput, check_not_ahead, serial_of
from undercroft.advisories.records import FeedHeader, KnownExploited
from undercroft.errors import InputError
from undercroft.model.schema import Json

NAME = "kev"
MAX_BYTES = 32 << 20


def parse(source: FeedInput) -> Feed:
    """Return the catalog's entries. Raises InputError."""
    catalog = fields.as_object(
        load_json(read_all(source.file, MAX_BYTES, source.name), source.name), source.name
    )
    entries = fields.as_objects(catalog.get("vulnerabilities"), f"{source.name}: vulnerabilities")
    if not entries or catalog.get("count") != len(entries):
        raise InputError(
            f"{source.name}: cut off: count is {ascii(catalog.get('count'))[:40]}, "
            f"entries found are {len(entries)}"
        )
    released_at = fields.moment(catalog.get("dateReleased"), f"{source.name}: dateReleased")
    check_not_ahead(released_at, source.now, source.name)
    header = FeedHeader(
        name=NAME,
        serial=serial_of(released_at),
        published_at=released_at,
        valid_until=None,
        max_age_s=ages.KEV_S,
    )
    records = _first_entries(entries, source.name)
    return Feed(header, iter(records))


def _first_entries(entries: list[Mapping[str, Json]], what: str) -> list[KnownExploited]:
    first: dict[str, KnownExploited] = {}
    for number, entry in enumerate(entries):
        place = f"{what}: entry {number}"
        vulnerability = fields.cve_number(entry.get("cveID"), place)
        added_on = fields.moment(entry.get("dateAdded"), f"{place}: dateAdded").date()
        known = first.get(vulnerability)
        if known is None or added_on < known.added_on:
            first[vulnerability] = KnownExploited(vulnerability, added_on)
    return list(first.values())
