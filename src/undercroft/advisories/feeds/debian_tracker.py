"""Debian's security tracker as JSON: the one feed that speaks for every package of a release.

Follows https://security-tracker.debian.org/tracker/data/json: `{source: {vulnerability: {"releases":
{codename: {"status", "fixed_version", "urgency"}}}}}`. Guarantees: "resolved" with version "0" is not
affected, any other version is the first fixed one; "open" is unfixed whatever `nodsa` says of the reason;
"undetermined" stays so. Statements carry no date, so they have no answer for --as-of.

The document is scanned package by package, twice: once for the releases, once for the statements. It has
no date either: the edition is dated by the server's Last-Modified, else by the import.
"""

from collections.abc import Iterator, Mapping

from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.bounded import json_members, read_all
from undercroft.advisories.feeds.feed import Feed, FeedInput
from undercroft.advisories.feeds.headers import undated
from undercroft.advisories.feeds.releases import debian_release
from undercroft.advisories.records import Advisory, Status
from undercroft.errors import InputError
from undercroft.model.finding import Severity
from undercroft.model.schema import Json

NAME = "debian-tracker"
MAX_BYTES = 256 << 20
"""Four times the size of today's document."""


def parse(source: FeedInput) -> Feed:
    """Return the tracker's statements. Raises InputError, also while the records are taken."""
    data = read_all(source.file, MAX_BYTES, source.name)
    releases = _releases(data, source.name)
    if not releases:
        raise InputError(f"{source.name}: names no Debian release that is known")
    header = undated(source, NAME, ages.DEBIAN_TRACKER_S, releases, complete_for=releases)
    return Feed(header, _advisories(data, source.name))


def _releases(data: bytes, what: str) -> tuple[str, ...]:
    codenames = {
        codename
        for _, vulnerabilities in _packages(data, what)
        for _, _, states in vulnerabilities
        for codename in states
    }
    return tuple(sorted(key for codename in codenames if (key := debian_release(codename))))


Statement = tuple[str, Mapping[str, Json], Mapping[str, Json]]


def _packages(data: bytes, what: str) -> Iterator[tuple[str, list[Statement]]]:
    """Yield (source package, [(vulnerability, record, states by codename)])."""
    for package, records in json_members(data, what):
        place = f"{what}: {fields.package(package, what)}"
        statements = []
        for untrusted_ident, untrusted_record in fields.as_object(records, place).items():
            record = fields.as_object(untrusted_record, place)
            states = fields.as_object(record.get("releases"), f"{place}: releases")
            statements.append((fields.ident(untrusted_ident, place), record, states))
        yield package, statements


def _advisories(data: bytes, what: str) -> Iterator[Advisory]:
    for package, statements in _packages(data, what):
        for vulnerability, record, states in statements:
            place = f"{what}: {package}: {vulnerability}"
            title = fields.title(fields.as_text(record.get("description"), place))
            for codename, untrusted_state in states.items():
                release = debian_release(codename)
                if release is None:
                    continue  # a release of tomorrow: nothing here speaks for it
                state = fields.as_object(untrusted_state, place)
                status, fixed_version = _status(state, f"{place}: {codename}")
                severity = fields.severity_word(fields.as_text(state.get("urgency"), place))
                yield Advisory(
                    feed=NAME,
                    release=release,
                    source=package,
                    vulnerability=vulnerability,
                    advisory="",
                    status=status,
                    fixed_version=fixed_version,
                    severity=severity,
                    severity_source="" if severity is Severity.UNKNOWN else "debian:urgency",
                    title=title,
                )


def _status(state: Mapping[str, Json], place: str) -> tuple[Status, str]:
    match state.get("status"):
        case "resolved" if state.get("fixed_version") == "0":
            return Status.NOT_AFFECTED, ""
        case "resolved":
            return Status.FIXED, fields.version(state.get("fixed_version"), place)
        case "open":
            return Status.UNFIXED, ""
        case "undetermined":
            return Status.UNDETERMINED, ""
    raise InputError(f"{place}: unknown status {ascii(state.get('status'))[:80]}")
