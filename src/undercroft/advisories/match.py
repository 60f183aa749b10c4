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

from undercroft.advisories import asof, boot, coverage, lines, origins, streams, vex
from undercroft.advisories.eol import end_of_life
from undercroft.advisories.families import family_of, order_of
from undercroft.advisories.findings import find, ordered
from undercroft.advisories.installed import ABSENT, Installed, installed
from undercroft.advisories.knowledge import Knowledge, grouped
from undercroft.advisories.mirror import compare
from undercroft.advisories.releases import release_key
from undercroft.advisories.sources import Subject
from undercroft.advisories.verdict import claim
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.finding import Assessment, Finding, Unassessed
from undercroft.model.inventory import Inventory

_NAMES_SHOWN = 5
_SYSTEMS = frozenset({"dpkg", "rpm", "apk", "pacman", "pkg"})
"""Managers of whole systems, whose packages only their own distributions' advisories mean."""
_OF_A_MODULE = ".module"  # in rpm's release: "1.module_el9.1.0+16+91bc168f"


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
    feeds = tuple(edition.status(at) for edition in knowledge.editions)
    unsupported = _unsupported(inventory, knowledge.release)
    if unsupported:  # 1
        return Assessment((), (), (), lifetime, feeds, problems=(unsupported,))
    known = asof.limited(knowledge, as_of)  # 2
    present = installed(known.release, inventory)
    comparison = compare(known, present, as_of)  # 4
    findings = find(known, present, comparison.changelogs, at, streams.streams_of(knowledge, inventory))  # 5
    beside = [(other, installed(other.release, inventory)) for other in known.beside]
    for other, others in beside:  # 7
        findings = ordered((*findings, *find(other, others, {}, at)))
    every = [*present, *(item for _, others in beside for item in others)]
    by_name = grouped(((item.source, package.name), package) for item in every for package in item.packages)
    applied = vex.apply(  # 6
        findings,
        known.vex,
        lambda finding, name: by_name[finding.source, name],
        known.release,
        inventory.os.codename if inventory.os else "",
    )
    strangers = tuple(_strangers(known, present))
    problems = [
        *coverage.problems(known, at, lifetime, as_of),  # 3
        *_unmatched(known.release, present),
        *_unlisted(known, present),
        *_of_other_systems(known.release, inventory),
        *origins.problems(known.release, sum(len(item.packages) for item in present), len(strangers)),
        *boot.problems(inventory),
    ]
    notes = [*coverage.notes(known, at), *boot.notes(inventory, order_of(known.release))]
    notes += [*_foreign(known, inventory), *streams.unlisted(known, inventory)]
    problems += [problem for other in known.beside for problem in coverage.stale(other, at)]
    feeds += tuple(
        edition.status(at)
        for other in known.beside
        for edition in other.editions
        if edition not in known.editions
    )
    is_whole = coverage.is_complete(known, at)
    if comparison.unexplained and (as_of or not is_whole):
        problems.append(_unexplained([subject.source for subject in comparison.unexplained], as_of))
    if comparison.uncertain and not is_whole:
        notes.append(_uncertain([subject.source for subject in comparison.uncertain]))
    if as_of:
        problems += _undated(knowledge, present, findings, as_of)
        for other, others in zip(knowledge.beside, (others for _, others in beside), strict=True):
            problems += _undated(other, others, findings, as_of)
    return Assessment(
        findings=applied.findings,
        outdated=comparison.outdated,
        unassessed=tuple(
            sorted((*comparison.unassessed, *strangers), key=lambda item: (item.package, item.version))
        ),
        end_of_life=lifetime,
        feeds=feeds,
        problems=tuple(problems),
        notes=tuple(notes),
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


def _unmatched(release: str, installed: Sequence[Installed]) -> Iterator[str]:
    """Yield why packages could not be matched: there are none, or their versions are no versions."""
    if not installed:
        yield "no installed package is known, so nothing could be matched"
    check = order_of(release).check
    names: list[str] = []
    unlabelled: list[str] = []
    mislabelled: list[str] = []
    for item in installed:
        for package in item.packages:
            try:
                check(package.version)
                if package.source_version != package.version:
                    check(package.source_version)
            except InputError:  # it is compared all the same, as its manager would, but maybe wrongly
                names.append(package.name)
            if package.manager == "rpm" and bool(package.module) is not (_OF_A_MODULE in package.version):
                (mislabelled if package.module else unlabelled).append(package.name)
    if names:
        yield f"{len(names)} packages with a malformed version are not assessed: {_listed(names)}"
    if unlabelled:
        yield (
            f"{len(unlabelled)} packages were built for a module and do not say for which stream: "
            f"advisories of modules are not matched with them: {_listed(unlabelled)}"
        )
    if mislabelled:
        yield (
            f"{len(mislabelled)} packages bear a module's label and were not built for one: advisories of "
            f"packages of no module are not matched with them: {_listed(mislabelled)}"
        )


def _strangers(known: Knowledge, present: Sequence[Installed]) -> Iterator[Unassessed]:
    """Yield the packages whose builds say that they are not of the release (4)."""
    packages = (package for item in present for package in item.packages)
    feeds = [edition.header.name for edition in known.editions]
    return origins.unassessed(known.release, packages, feeds)


def _unlisted(known: Knowledge, present: Sequence[Installed]) -> Iterator[str]:
    """Yield which packages are of lines of builds that no imported list speaks of."""
    if coverage.covering(known):
        subjects = [(item.subject.source, item.subject.version) for item in present]
        yield from lines.unlisted(known.release, subjects, known.advisories)


def _of_other_systems(release: str, inventory: Inventory) -> Iterator[str]:
    """Yield how many packages are another kind of system's: a guest may call itself what it is not."""
    family = family_of(release)
    own = family.manager if family else ""
    names = [
        package.manager
        for package in inventory.packages
        if package.manager in _SYSTEMS and package.manager != own and package.status not in ABSENT
    ]
    if names:
        yield (
            f"{len(names)} packages of {', '.join(sorted(set(names)))} are not what {release} is made of: "
            "no advisories are matched with them"
        )


def _foreign(known: Knowledge, inventory: Inventory) -> Iterator[str]:
    """Yield how many packages no list of advisories that is here speaks of."""
    matched = (
        {other.release for other in known.beside if coverage.covering(other)}
        | _SYSTEMS
        | {streams.REPOSITORY}
    )
    names = [package.manager for package in inventory.packages if package.manager not in matched]
    if names:
        managers = ", ".join(sorted(set(names)))
        yield f"{len(names)} packages of {managers} are listed, no advisories are matched with them"


def _unexplained(sources: Sequence[str], as_of: date | None) -> str:
    if as_of:
        return (
            f"{len(sources)} source packages have newer versions in an index, which has no dates: what was "
            f"missing on {as_of} is unknown ({_listed(sources)}): --as-of answers from dated records only"
        )
    return (
        f"{len(sources)} outdated source packages without changelog, what their updates fix is unknown "
        f"({_listed(sources)}): {coverage.UPDATE_MIRROR} --for IMAGE"
    )


def _uncertain(sources: Sequence[str]) -> str:
    return (
        f"{len(sources)} outdated source packages are updated from another branch, and their own changelogs "
        f"are not at hand: some of their findings may be fixed already ({_listed(sources)})"
    )


def _undated(
    knowledge: Knowledge, installed: Sequence[Installed], findings: Sequence[Finding], as_of: date
) -> Iterator[str]:
    """Yield one problem that counts the undated statements that would have matched."""
    found = {(finding.source, finding.vulnerability) for finding in findings}
    missed: set[tuple[str, str]] = set()
    feeds: set[str] = set()
    undated = asof.undated(knowledge)
    order = order_of(knowledge.release)
    for item in installed:
        for subject in (item.subject, *item.others):
            for statement in undated.get(subject.source, ()):
                name = item.source, statement.vulnerability
                if name not in found and claim(statement.feed, (statement,), subject.version, order):
                    missed.add(name)
                    feeds.add(statement.feed)
    if missed:
        yield (
            f"{len(missed)} vulnerabilities that {', '.join(sorted(feeds))} gives no date for may have been "
            f"known on {as_of}"
        )


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
