"""What keeps an answer from being whole (problems), and what limits it otherwise (notes), in sentences.

Numbers are the steps of `match`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from undercroft.advisories import asof, boot, coverage, lines, origins, streams
from undercroft.advisories.families import family_of, order_of
from undercroft.advisories.installed import ABSENT, Installed
from undercroft.advisories.knowledge import Knowledge
from undercroft.advisories.mirror import Comparison
from undercroft.advisories.verdict import claim
from undercroft.errors import InputError
from undercroft.model.finding import EndOfLife, Finding
from undercroft.model.inventory import Inventory

_NAMES_SHOWN = 5
_SYSTEMS = frozenset({"dpkg", "rpm", "apk", "pacman", "pkg"})
"""Managers of whole systems, whose packages only their own distributions' advisories mean."""
_OF_A_MODULE = ".module"  # in rpm's release: "1.module_el9.1.0+16+91bc168f"


@dataclass(frozen=True, slots=True)
class Matched:
    """One state that was matched, and by what.

    Attributes:
        inventory: of the state; untrusted.
        knowledge: all that was gathered.
        known: what of it counts for the day that is asked for.
        present: what of the inventory the release's advisories are matched with.
        beside: the same for each language, with what is known of its ecosystem.
        comparison: what the release's indexes say.
        findings: before the user's own statements.
        strangers: how many packages are not of the release.
        lifetime: of the release.
        at: the moment that is asked for.
        as_of: the day, None for now.
    """

    inventory: Inventory
    knowledge: Knowledge
    known: Knowledge
    present: Sequence[Installed]
    beside: Sequence[tuple[Knowledge, Sequence[Installed]]]
    comparison: Comparison
    findings: Sequence[Finding]
    strangers: int
    lifetime: EndOfLife
    at: datetime
    as_of: date | None


def problems(matched: Matched) -> Iterator[str]:
    """Yield why the answer is not whole."""
    known, present, as_of = matched.known, matched.present, matched.as_of
    packages = sum(len(item.packages) for item in present)
    yield from coverage.problems(known, matched.at, matched.lifetime, as_of)  # 3
    yield from _unmatched(known.release, present)
    yield from _unlisted(known, present)
    yield from _of_other_systems(known.release, matched.inventory)
    yield from origins.problems(known.release, packages, matched.strangers)
    yield from boot.problems(matched.inventory)
    for other in known.beside:
        yield from coverage.stale(other, matched.at)
    unexplained = matched.comparison.unexplained
    if unexplained and (as_of or not coverage.is_complete(known, matched.at)):
        yield _unexplained([subject.source for subject in unexplained], as_of)
    if as_of:
        yield from _undated(matched.knowledge, present, matched.findings, as_of)
        for other, (_, others) in zip(matched.knowledge.beside, matched.beside, strict=True):
            yield from _undated(other, others, matched.findings, as_of)


def notes(matched: Matched) -> Iterator[str]:
    """Yield what else limits the answer, or is to be known of it."""
    known, inventory = matched.known, matched.inventory
    yield from coverage.notes(known, matched.at)
    yield from boot.notes(inventory, order_of(known.release))
    yield from _foreign(known, inventory)
    yield from streams.unlisted(known, inventory)
    uncertain = matched.comparison.uncertain
    if uncertain and not coverage.is_complete(known, matched.at):
        yield _uncertain([subject.source for subject in uncertain])


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
