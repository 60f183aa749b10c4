"""What the advisories say of an inventory: a pure function of inventory, records and day.

A release is matched by its own publisher's statements, in its package manager's order of versions: `families`
says by which packages. In steps, whose numbers the code repeats:

1. Only the releases of `families` are matched; anything else is a problem of the answer.
2. For a day in the past only records of that day or earlier count (`asof`).
3. Feeds that are missing, too old or silent about the release are problems (`coverage`).
4. Every installed package stands somewhere to the release's package indexes (`archive`); rpms, for which
   there are none, say by their builds whether they are of the release at all (`origins`).
5. Every statement about an installed source package is judged by version, feed by feed (`verdict`), and
   the feeds' claims about one vulnerability become one finding (`findings`).
6. The user's own OpenVEX statements take findings away, visibly (`vex`).
7. Packages of languages are matched by their ecosystems, where a feed speaks for one: its silence is no
   problem of the answer, since few machines have feeds for them, but a note.

Nothing here can turn "not known" into "clean": what has no answer becomes a problem.
"""

from collections.abc import Iterator, Sequence
from datetime import date, datetime

from undercroft.advisories import asof, gaps, origins, streams, vex
from undercroft.advisories.eol import end_of_life
from undercroft.advisories.findings import find, ordered
from undercroft.advisories.gaps import Matched
from undercroft.advisories.installed import Installed, installed
from undercroft.advisories.knowledge import Knowledge, grouped
from undercroft.advisories.mirror import compare
from undercroft.advisories.releases import release_key
from undercroft.advisories.sources import Subject
from undercroft.errors import UnsupportedError
from undercroft.model.finding import Assessment, FeedStatus, Finding, Unassessed
from undercroft.model.inventory import Inventory


def assess(
    inventory: Inventory, knowledge: Knowledge, *, now: datetime, as_of: date | None = None
) -> Assessment:
    """Return what `knowledge` says of `inventory`.

    Args:
        inventory: one state of one machine; its texts are untrusted.
        knowledge: gathered for this inventory and its release.
        now: with a time zone; feeds are judged stale by it.
        as_of: answer as on the evening of this day, None for today.
    """
    at = asof.moment(now, as_of)
    lifetime = end_of_life(inventory.os, at.date())
    unsupported = _unsupported(inventory, knowledge.release)
    if unsupported:  # 1
        feeds = tuple(edition.status(at) for edition in knowledge.editions)
        return Assessment((), (), (), lifetime, feeds, problems=(unsupported,))
    known = asof.limited(knowledge, as_of)  # 2
    present = installed(known.release, inventory)
    beside = tuple((other, installed(other.release, inventory)) for other in known.beside)
    comparison = compare(known, present, as_of)  # 4
    findings = find(known, present, comparison.changelogs, at, streams.streams_of(knowledge, inventory))  # 5
    for other, others in beside:  # 7
        findings = ordered((*findings, *find(other, others, {}, at)))
    applied = _applied(findings, known, inventory, (present, *(others for _, others in beside)))  # 6
    strangers = tuple(_strangers(known, present))
    matched = Matched(
        inventory=inventory,
        knowledge=knowledge,
        known=known,
        present=present,
        beside=beside,
        comparison=comparison,
        findings=findings,
        strangers=len(strangers),
        lifetime=lifetime,
        at=at,
        as_of=as_of,
    )
    unassessed = sorted((*comparison.unassessed, *strangers), key=lambda item: (item.package, item.version))
    return Assessment(
        findings=applied.findings,
        outdated=comparison.outdated,
        unassessed=tuple(unassessed),
        end_of_life=lifetime,
        feeds=_feeds(knowledge, known, at),
        problems=tuple(gaps.problems(matched)),  # 3
        notes=tuple(gaps.notes(matched)),
        suppressed=applied.suppressed,
    )


def missing_changelogs(inventory: Inventory, knowledge: Knowledge) -> tuple[Subject, ...]:
    """Return the source versions whose changelogs would tell what the inventory lacks.

    They name sources as advisories do, and cover what no index lists any more: an old kernel beside the
    newest one is behind its source without having a newer version of its own name. Where a newer version's
    changelog is there and turns out to be of another branch, the installed version's own is asked for.
    """
    if _unsupported(inventory, knowledge.release):
        return ()
    comparison = compare(knowledge, installed(knowledge.release, inventory), None)
    return comparison.unexplained + comparison.without_own


def _unsupported(inventory: Inventory, release: str) -> str:
    """Return why no advisory can be matched with this operating system, "" when they can."""
    if inventory.os is None:
        return "the operating system is unknown, so no advisory can be matched"
    try:
        found = release_key(inventory.os)
    except UnsupportedError as error:
        return str(error)
    if found != release:
        return f"the advisories were gathered for {release or 'no release'}, the system is {found}"
    return ""


def _applied(
    findings: Sequence[Finding],
    known: Knowledge,
    inventory: Inventory,
    present: Sequence[Sequence[Installed]],
) -> vex.Applied:
    """Return what the user's own statements leave of the findings, and what they take away."""
    items = (item for group in present for item in group)
    by_name = grouped(((item.source, package.name), package) for item in items for package in item.packages)
    codename = inventory.os.codename if inventory.os else ""
    return vex.apply(
        findings, known.vex, lambda finding, name: by_name[finding.source, name], known.release, codename
    )


def _strangers(known: Knowledge, present: Sequence[Installed]) -> Iterator[Unassessed]:
    """Yield the packages whose builds say that they are not of the release (4)."""
    packages = (package for item in present for package in item.packages)
    feeds = [edition.header.name for edition in known.editions]
    return origins.unassessed(known.release, packages, feeds)


def _feeds(knowledge: Knowledge, known: Knowledge, at: datetime) -> tuple[FeedStatus, ...]:
    """Return the editions that the answer rests on, those of languages behind the release's."""
    beside = (edition for other in known.beside for edition in other.editions)
    return tuple(
        edition.status(at)
        for edition in (*knowledge.editions, *(one for one in beside if one not in known.editions))
    )
