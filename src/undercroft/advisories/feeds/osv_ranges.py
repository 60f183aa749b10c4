"""OSV's `affected` object to statements of the kind "affected from A, fixed in B".

Follows https://ossf.github.io/osv-schema/#affectedranges-field: events are read in the order of the
document, `introduced` opens an interval and `fixed` closes it. What the record's model cannot hold
(`last_affected`, a bare list of versions) becomes UNDETERMINED: the package is named, so nobody takes it
for clean, and no version is made up.
"""

from collections.abc import Iterator, Mapping

from undercroft.advisories.feeds import fields
from undercroft.advisories.records import Status
from undercroft.errors import InputError
from undercroft.model.schema import Json

Statement = tuple[Status, str, str]
"""(status, introduced version or "", fixed version or "")."""

_OF_VERSIONS = frozenset(("ECOSYSTEM", "SEMVER"))
"""Ranges of versions; those of commits (GIT) mean nothing for a package."""


def statements(affected: Mapping[str, Json], place: str) -> list[Statement]:
    """Return what `affected` says of its package, at least one statement. Raises InputError."""
    found: list[Statement] = []
    for entry in fields.as_objects(affected.get("ranges"), f"{place}: ranges"):
        if fields.as_text(entry.get("type"), f"{place}: type") in _OF_VERSIONS:
            found += _intervals(fields.as_objects(entry.get("events"), f"{place}: events"), place)
    return list(dict.fromkeys(found)) or [(Status.UNDETERMINED, "", "")]


def _intervals(events: list[Mapping[str, Json]], place: str) -> Iterator[Statement]:
    introduced: str | None = None
    for event in events:
        if "introduced" in event:
            if introduced is not None:
                yield Status.UNFIXED, introduced, ""
            version = fields.version(event["introduced"], place)
            introduced = "" if version == "0" else version
        elif "fixed" in event:
            if introduced is None:
                raise InputError(f"{place}: fixed before it was introduced")
            fixed_version = fields.version(event["fixed"], place)
            if fixed_version == "0":
                yield Status.NOT_AFFECTED, "", ""
            else:
                yield Status.FIXED, introduced, fixed_version
            introduced = None
        elif "last_affected" in event:
            yield Status.UNDETERMINED, introduced or "", ""
            introduced = None
    if introduced is not None:
        yield Status.UNFIXED, introduced, ""
