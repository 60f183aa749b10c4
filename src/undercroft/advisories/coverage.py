"""Whether the feeds that are there can answer for a release on a day, and what limits their answer.

A problem makes the assessment incomplete: nothing covers the release, a feed is too old, the release gets
no advisories any more. A note tells what a whole answer does not include.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime

from undercroft.advisories.eol import ENDED, EXTENDED
from undercroft.advisories.families import family_of
from undercroft.advisories.knowledge import Edition, Knowledge
from undercroft.advisories.records import is_mirror
from undercroft.model.finding import EndOfLife

UPDATE = "undercroft feeds update"
UPDATE_MIRROR = f"{UPDATE} --mirror auto"
_DSA, _DLA = "debian-dsa", "debian-dla"
_DEBS = ("debian:", "ubuntu:")
_ALPINE, _ALPINE_OSV = "alpine:", "osv:Alpine"
ALPINE_SECDB = "alpine-secdb:"
"""What the names of feeds begin with that hold one repository of one release of Alpine."""
UPDATEINFO = "updateinfo:"
"""The same of the errata of one repository of rpms: "updateinfo:oracle:9:ol9_appstream"."""
_SECURITY_SUITES = ("-security", "/updates")
_PARTS = {"alma": ("base", "appstream"), "oracle": ("base", "appstream"), "rocky": ("base", "appstream")}
"""Which repositories' errata have to be there for a release's silence to mean anything; else the base's."""
_ONE_REPOSITORY = ("oracle:6", "oracle:7")
"""Releases from before there was an AppStream."""


def covering(knowledge: Knowledge) -> tuple[Edition, ...]:
    """Return the editions from whose silence something follows for the release, at least one each.

    These are whole trackers (`complete_for`), the distribution's advisory lists (`listed_for`) and package
    indexes. A
    single OSV record, a changelog or an empty feed says nothing of what it does not name.
    """
    return tuple(
        edition
        for edition in knowledge.editions
        if edition.records and knowledge.release in edition.header.releases and _covers(edition, knowledge)
    )


def _covers(edition: Edition, knowledge: Knowledge) -> bool:
    name = edition.header.name
    return (
        knowledge.release in edition.header.complete_for
        or knowledge.release in edition.header.listed_for
        or bool(_listed_parts(knowledge.release, (edition,)))
        or name in {_DSA, _DLA}
        or (is_mirror(name) and knowledge.has_index)
    )


def is_complete(knowledge: Knowledge, at: datetime) -> bool:
    """Return whether a feed that is fresh at `at` knows every vulnerability of the release, fixed or not."""
    return any(
        knowledge.release in edition.header.complete_for and at <= edition.known_until
        for edition in covering(knowledge)
    )


def problems(
    knowledge: Knowledge, at: datetime, end_of_life: EndOfLife, as_of: date | None = None
) -> Iterator[str]:
    """Yield why the feeds cannot answer for the release at the moment `at`.

    For a day in the past (`as_of`) package indexes cover nothing, since they carry no dates.
    """
    editions = covering(knowledge)
    if not editions:
        yield f"no advisories for {knowledge.release}: {_cure(knowledge.release)}"
    elif as_of and all(is_mirror(edition.header.name) for edition in editions):
        yield (
            f"package indexes do not tell what {knowledge.release} lacked on {as_of}; --as-of answers from "
            f"dated records only: {UPDATE}"
        )
    elif not any(knowledge.release in edition.header.complete_for for edition in editions):
        yield from _part_gaps(knowledge.release, editions)
        names = {edition.header.name for edition in editions}
        names = {name for name in names if not (as_of and is_mirror(name))}
        yield from _gaps(knowledge.release, names, end_of_life)
    if end_of_life.state == ENDED:
        ended_on = end_of_life.extended_ends_on or end_of_life.ends_on
        yield (
            f"{knowledge.release} reached its end of life on {ended_on}: later vulnerabilities are unknown; "
            "move to a supported release"
        )
    yield from stale(knowledge, at)


def stale(knowledge: Knowledge, at: datetime) -> Iterator[str]:
    """Yield which editions are too old at the moment `at` to answer; those about vulnerabilities too."""
    for edition in knowledge.editions:
        if at > edition.known_until:
            yield _stale(edition, at)


def _gaps(release: str, names: set[str], end_of_life: EndOfLife) -> Iterator[str]:
    """Yield what feeds that are whole only together lack: suites of a mirror, or advisory lists.

    DSA are for a release's regular support, DLA for its LTS, and in LTS both sorts are needed.
    """
    if release.startswith(_ALPINE):
        yield from _alpine_gaps(release, names)
    if not release.startswith(_DEBS) or any(
        is_mirror(name) and name.endswith(_SECURITY_SUITES) for name in names
    ):
        return
    lists = {_DSA, _DLA} if end_of_life.state == EXTENDED else {_DSA}
    if not names & {_DSA, _DLA}:
        yield f"the security suite of {release} is not imported from its mirror: {UPDATE_MIRROR}"
    elif lists - names:
        yield f"the advisories of {release} in {', '.join(sorted(lists - names))} are not imported: {UPDATE}"


def _listed_parts(release: str, editions: Iterable[Edition]) -> set[str]:
    """Return the parts of a release ("base") that lists by repository are there for."""
    listed = (part for edition in editions for part in edition.header.listed_for)
    return {part.removeprefix(f"{release}/") for part in listed if part.startswith(f"{release}/")}


def _part_gaps(release: str, editions: Sequence[Edition]) -> Iterator[str]:
    """Yield which part of a release has no list of errata: a machine has packages of all of them."""
    if any(release in edition.header.listed_for for edition in editions):
        return
    parts = _listed_parts(release, editions)
    needed = ("base",) if release in _ONE_REPOSITORY else _PARTS.get(release.partition(":")[0], ("base",))
    for part in needed if parts else ():
        if part not in parts:
            yield f"the errata of {release} for its repository {part} are not imported: {_cure(release)}"


def _alpine_gaps(release: str, names: set[str]) -> Iterator[str]:
    """Yield the repository whose secdb is missing: a machine may have packages of both."""
    if any(name.startswith(_ALPINE_OSV) for name in names):
        return
    for repository in ("main", "community"):
        if f"{ALPINE_SECDB}{release.partition(':')[2]}:{repository}" not in names:
            cure = _cure(release)
            yield f"the advisories of {release} for its repository {repository} are not imported: {cure}"


def _cure(release: str) -> str:
    family = family_of(release)
    return family.cure.replace("{version}", release.partition(":")[2]) if family else UPDATE


def notes(knowledge: Knowledge, at: datetime) -> Iterator[str]:
    """Yield what the answer does not include, whole as it may be."""
    if not knowledge.has_index and knowledge.release.startswith(_DEBS):
        yield f"no package index of {knowledge.release} is imported: origins of packages were not checked"
    if lists := [name for name in _names(knowledge) if name.startswith(f"{UPDATEINFO}{knowledge.release}:")]:
        repositories = ", ".join(sorted(name.rpartition(":")[2] for name in lists))
        yield f"packages are matched with the errata of {repositories}: those of other repositories are not"
    if covering(knowledge) and not is_complete(knowledge, at):
        yield f"no security tracker of {knowledge.release} is imported: only fixed vulnerabilities are known"
    if "kev" not in _names(knowledge):
        yield "no catalog of known exploited vulnerabilities is imported"


def _names(knowledge: Knowledge) -> tuple[str, ...]:
    return tuple(edition.header.name for edition in knowledge.editions)


def _stale(edition: Edition, at: datetime) -> str:
    header = edition.header
    cure = UPDATE_MIRROR if is_mirror(header.name) else UPDATE
    if header.name.startswith(UPDATEINFO):
        cure = f"{UPDATE} {header.name}, or feeds import FILE"
    if header.valid_until is not None and edition.known_until == header.valid_until:
        return (
            f"{header.name} was valid until {header.valid_until:%Y-%m-%d}, says its publisher: "
            f"its answers are unknown: {cure}"
        )
    age = at - (header.published_at or edition.fetched_at)
    limit_days = header.max_age_s / 86400
    return (
        f"{header.name} is {age.days} days old, the limit is {limit_days:.3g}: "
        f"its answers are unknown: {cure}"
    )
