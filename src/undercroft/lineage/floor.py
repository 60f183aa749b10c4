"""The patch floor of a machine: what it has already fixed, and what a state of it would bring back.

The floor stands for a set of advisories: all that are fixed at the highest version of each package that the
machine has had. As versions, in the order of the release's family, it also answers for advisories that come
later. Its entries are called as the advisory database calls subjects: "openssl" is a source package,
"binary:openssl-libs" a binary one, "binary:npm@nodejs:18" one of a module's stream. In rules, with reasons:

1. A version counts only as far as a trusted source goes: `reached` says what a state proves. A guest that
   writes 999: into its database would else lift its floor above everything, and every later state of it would
   be below.
2. Of several versions of one package that are installed together (kernels) the oldest counts: a vulnerability
   is fixed in a machine when no version that it has is affected, as in findings. Newer ones that nobody lists
   take nothing away from it: a guest could else keep its floor down with one invented package.
3. The floor only grows. A package that was removed leaves its entry: put back in an older version, it
   brings back what was fixed.
4. What returns is read from today's assessment of the state. A vulnerability without a fixed version was
   never fixed, and one whose fix was withdrawn or moved up is no longer fixed at the floor.
5. A version of everybody's archive above one of an extended stream (ESM, EUS) does not hold its fix.
6. A state in an older release of the same distribution is below the floor as a whole. Releases stand in the
   order of their numbers, "3.9" before "3.19"; one that only rolls ("edge") after them.
7. Each stream of a module has a floor of its own: a higher number in another stream is no fix, and takes
   none away. A state in a stream that the machine is not known to have had, where it is known to have had
   another one, is neither old nor fixed: it proves nothing. It is known to have had it from the first
   state in it that lacks none of its fixes, or a rollback into another stream would need no more than to
   be read. So it is with a distribution that the floor knows nothing of, until the machine was read in
   it.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime

from undercroft.advisories import debversion, severity
from undercroft.advisories.families import family_of, order_of
from undercroft.advisories.installed import installed
from undercroft.advisories.knowledge import Knowledge
from undercroft.advisories.orders.table import DEB
from undercroft.advisories.records import package_of
from undercroft.advisories.releases import known_release
from undercroft.advisories.sources import Subject
from undercroft.advisories.verdict import is_extended, minor_release
from undercroft.lineage.reached import epoch, own_subjects, reached
from undercroft.model.comeback import Returning
from undercroft.model.finding import Assessment, Finding, FixState
from undercroft.model.fleet import Floor, FloorEntry
from undercroft.model.inventory import Inventory

_BINARY = "binary:"


def raised(floor: Floor, inventory: Inventory, knowledge: Knowledge, at: datetime) -> Floor:
    """Return the floor after the machine has been in the state of `inventory`; `floor` itself if no higher.

    Args:
        floor: so far.
        inventory: a state that the machine has been in, untrusted.
        knowledge: gathered for this inventory and its release.
        at: when it was read.
    """
    release = known_release(inventory)
    if not release or release != knowledge.release:
        return floor
    key = order_of(release).key
    entries = {(entry.release, entry.source): entry for entry in floor.entries}
    had = _packages(_versions(floor, release))
    grown = False
    for source, version, lacks in reached(release, inventory, knowledge):
        known = entries.get((release, source))
        if known is None and lacks and _package(source) in had:
            continue  # 7
        if known is None or key(known.version) < key(version):
            entries[release, source] = FloorEntry(release, source, version, at)
            grown = True
    if not grown:
        return floor
    return replace(floor, entries=tuple(entries[place] for place in sorted(entries)))


def returning(floor: Floor, inventory: Inventory, assessment: Assessment) -> tuple[Returning, ...]:
    """Return what the state of `inventory` has although it was fixed at the floor, known-exploited first.

    From the absence of a vulnerability follows something only where inventory and assessment are complete.

    Args:
        floor: of the machine.
        inventory: the state, untrusted.
        assessment: what the advisories say of it today.
    """
    release = known_release(inventory)
    versions = _versions(floor, release)
    family = family_of(release)
    by_binary = family is not None and family.by_binary and bool(versions)
    subjects = _subjects(release, inventory, assessment.findings) if by_binary else {}
    found = [
        Returning(
            source=finding.source,
            vulnerability=finding.vulnerability,
            installed_version=finding.installed_version,
            fixed_version=finding.fixed_version,
            floor_version=floor_version,
            severity=finding.severity,
            known_exploited_on=finding.known_exploited_on,
        )
        for finding in assessment.findings
        if (floor_version := _fixed_at(finding, release, versions, subjects))
    ]
    return tuple(sorted([*_older_release(floor, release), *found], key=_order))


def unproven(floor: Floor, inventory: Inventory, assessment: Assessment) -> tuple[str, ...]:
    """Return the sources of the floor that the state has in a version of which nobody can say what it fixes.

    These are versions above the floor that no trusted source lists, in another epoch than the floor's where
    no index tells, and packages of another stream of a module (rule 7): a guest may have written them.
    Sorted; where the floor knows nothing of the state's distribution, its release alone.
    """
    release = known_release(inventory)
    if not release or not floor.entries:
        return ()
    distribution = release.partition(":")[0]
    if all(entry.release.partition(":")[0] != distribution for entry in floor.entries):
        return (release,)
    versions = _versions(floor, release)
    unlisted = {(package.package, package.version) for package in assessment.unassessed}
    order = order_of(release)
    if not versions or (order is DEB and not unlisted):
        return ()
    had = _packages(versions)
    found = set()
    for item in installed(release, inventory):
        is_unlisted = any((package.name, package.version) in unlisted for package in item.packages)
        for subject in own_subjects(item):
            known = versions.get(subject.source)
            if known is None:
                if _package(subject.source) in had:
                    found.add(item.source)
            elif order.key(subject.version) > order.key(known) and (
                is_unlisted or (order is not DEB and epoch(subject.version) != epoch(known))
            ):
                found.add(item.source)
    return tuple(sorted(found))


def _versions(floor: Floor, release: str) -> dict[str, str]:
    return {entry.source: entry.version for entry in floor.entries if entry.release == release}


def _packages(subjects: Iterable[str]) -> set[str]:
    return {_package(name) for name in subjects} - {""}


def _package(subject: str) -> str:
    """Return the name of a binary package, which all of its streams have in common; "" for a source's."""
    return package_of(subject) if subject.startswith(_BINARY) else ""


def _subjects(
    release: str, inventory: Inventory, findings: Iterable[Finding]
) -> dict[tuple[str, str], list[Subject]]:
    """Return the subjects of what `findings` name, by source and package as they name them."""
    sources = {finding.source for finding in findings if finding.fixed_version}
    named = tuple(package for package in inventory.packages if package.source in sources)
    found: dict[tuple[str, str], list[Subject]] = {}
    for item in installed(release, replace(inventory, packages=named)):
        for name in item.names:
            found.setdefault((item.source, name), []).extend(own_subjects(item))
    return found


def _fixed_at(
    finding: Finding,
    release: str,
    versions: Mapping[str, str],
    subjects: Mapping[tuple[str, str], list[Subject]],
) -> str:
    """Return the version at which a machine was without `finding`, "" where its floor holds none (4, 5)."""
    if not finding.fixed_version:
        return ""
    if not subjects:
        floor_version = versions.get(finding.source, "")
        return floor_version if floor_version and _holds(finding, release, floor_version) else ""
    key = order_of(release).key
    fixed = key(finding.fixed_version)
    held = [
        versions[subject.source]
        for name in finding.packages
        for subject in subjects.get((finding.source, name), ())
        # A fixed version that is not above the installed one is another subject's, in numbers of its own.
        if subject.source in versions
        and key(subject.version) < fixed
        and _holds(finding, release, versions[subject.source])
    ]
    return max(held, key=key, default="")


def _holds(finding: Finding, release: str, floor_version: str) -> bool:
    """Tell whether a version of the floor has the fix of `finding`."""
    order = order_of(release)
    fixed_version = finding.fixed_version
    if order.key(floor_version) < order.key(fixed_version):
        return False
    if order is DEB:
        return not is_extended(fixed_version) or is_extended(floor_version)
    if finding.fix is not FixState.NEEDS_SUBSCRIPTION:
        return True
    return minor_release(fixed_version) == minor_release(floor_version)


def _older_release(floor: Floor, release: str) -> Iterator[Returning]:
    """Yield the release itself where it is older than one that the machine had reached (rule 6)."""
    key = debversion.key  # of numbers with dots, all families' versions are; letters stand after them
    distribution, _, version = release.partition(":")
    same = [entry.release for entry in floor.entries if entry.release.partition(":")[0] == distribution]
    highest = max(same, key=lambda name: key(name.partition(":")[2]), default="")
    if release and highest and key(version) < key(highest.partition(":")[2]):
        yield Returning("", "", release, highest, highest)


def _order(item: Returning) -> tuple[bool, bool, int, str, str]:
    return (
        bool(item.source),  # a whole release comes first
        item.known_exploited_on is None,
        severity.RANK[item.severity],
        item.source,
        item.vulnerability,
    )
