"""Arch Linux's security tracker as JSON: groups of vulnerabilities in packages of one version.

Follows https://security.archlinux.org/all.json: `[{"name": "AVG-1", "packages", "status", "severity",
"affected", "fixed", "issues", "advisories"}]`. Guarantees: "Fixed" and "Testing" are fixed in the version
that the group names; "Vulnerable" is unfixed; "Not affected" is that; "Unknown", and a group that names no
version although it is fixed, stay undetermined. The version that a group calls affected is the one that was
looked at, not the first: older ones count as affected too. A group mostly names the package after which
the others of one build are called ("systemd" for "systemd-libs"), so that it speaks for all of them that it
does not name. There are no dates: the edition is dated by the
server's Last-Modified, else by the import.
"""

from collections.abc import Iterator, Mapping
from itertools import product

from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.bounded import load_json, read_all
from undercroft.advisories.feeds.feed import Feed, FeedInput
from undercroft.advisories.feeds.headers import undated
from undercroft.advisories.records import Advisory, Status, subject_name
from undercroft.errors import InputError
from undercroft.model.finding import Severity
from undercroft.model.schema import Json

NAME = "arch"
RELEASE = "arch"
MAX_BYTES = 64 << 20
MIN_GROUPS = 50
"""Fewer are an excerpt, in which silence means nothing; the tracker has some 2,500."""

_STATUSES = {
    "Fixed": Status.FIXED,
    "Testing": Status.FIXED,
    "Vulnerable": Status.UNFIXED,
    "Not affected": Status.NOT_AFFECTED,
    "Unknown": Status.UNDETERMINED,
}


def parse(source: FeedInput) -> Feed:
    """Return the tracker's statements. Raises InputError, also while the records are taken."""
    data = read_all(source.file, MAX_BYTES, source.name)
    groups = fields.as_objects(load_json(data, source.name), source.name)
    if not groups:
        raise InputError(f"{source.name}: holds no group of vulnerabilities")
    header = undated(
        source, NAME, ages.ARCH_S, (RELEASE,), complete_for=(RELEASE,) if len(groups) >= MIN_GROUPS else ()
    )
    return Feed(header, _advisories(groups, source.name))


def _advisories(groups: list[Mapping[str, Json]], what: str) -> Iterator[Advisory]:
    for group in groups:
        name = fields.ident(group.get("name"), what)
        place = f"{what}: {name}"
        status, fixed_version = _status(group, place)
        severity = fields.severity_word(fields.as_text(group.get("severity"), place))
        packages = fields.as_texts(group.get("packages"), f"{place}: packages")
        issues = fields.as_texts(group.get("issues"), f"{place}: issues")
        advisories = fields.as_texts(group.get("advisories"), f"{place}: advisories")
        for package in packages:
            checked = fields.package(package, place)
            named = subject_name(checked, binary=True), subject_name(checked)
            for issue, subject in product(issues or [name], named):
                yield Advisory(
                    feed=NAME,
                    release=RELEASE,
                    source=subject,
                    vulnerability=fields.ident(issue, place),
                    advisory=fields.ident(advisories[0], place) if advisories else name,
                    status=status,
                    fixed_version=fixed_version,
                    severity=severity,
                    severity_source="" if severity is Severity.UNKNOWN else "arch:severity",
                    title=fields.title(fields.as_text(group.get("type"), place)),
                )


def _status(group: Mapping[str, Json], place: str) -> tuple[Status, str]:
    word = fields.as_text(group.get("status"), f"{place}: status")
    status = _STATUSES.get(word)
    if status is None:
        raise InputError(f"{place}: unknown status {ascii(word)[:80]}")
    if status is not Status.FIXED:
        return status, ""
    if group.get("fixed") is None:
        return Status.UNDETERMINED, ""
    return status, fields.version(group["fixed"], f"{place}: fixed")
