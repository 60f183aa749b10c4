"""The patch floor of a machine: what it has already fixed, and what a state of it would bring back.

The floor stands for a set of advisories: all that are fixed at the highest version of each source package
that the machine has had. As versions it also answers for advisories that come later. In rules, with the
reasons:

1. A version counts only where a trusted source lists exactly this one: the release's package index, a
   publisher's fixed version, a changelog of the mirror. A guest that writes 999: into its database would
   else lift its floor above everything, and every later state of it would be below.
2. Of several versions of one source that are installed together (kernels) the oldest counts: a vulnerability
   is fixed in a machine when no version that it has is affected, as in findings. Newer ones that nobody lists
   take nothing away from it: a guest could else keep its floor down with one invented package.
3. The floor only grows. A package that was removed leaves its entry: put back in an older version, it
   brings back what was fixed.
4. What returns is read from today's assessment of the state. A vulnerability without a fixed version was
   never fixed, and one whose fix was withdrawn or moved up is no longer fixed at the floor.
5. A version of everybody's archive above one of an extended stream (ESM) does not hold its fix.
6. A state in an older release of the same distribution is below the floor as a whole.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime

from undercroft.advisories import severity
from undercroft.advisories.debversion import key
from undercroft.advisories.families import order_of
from undercroft.advisories.installed import Installed, installed
from undercroft.advisories.knowledge import Knowledge
from undercroft.advisories.orders.table import DEB
from undercroft.advisories.records import Status
from undercroft.advisories.releases import known_release
from undercroft.advisories.sources import signed_version, tracked
from undercroft.advisories.verdict import is_extended
from undercroft.model.comeback import Returning
from undercroft.model.finding import Assessment, Finding
from undercroft.model.fleet import Floor, FloorEntry
from undercroft.model.inventory import Inventory

_NEVER_AFFECTED = "0"  # a publisher's way to write it; no version


def raised(floor: Floor, inventory: Inventory, knowledge: Knowledge, at: datetime) -> Floor:
    """Return the floor after the machine has been in the state of `inventory`; `floor` itself if no higher.

    Args:
        floor: so far.
        inventory: a state that the machine has been in, untrusted.
        knowledge: gathered for this inventory and its release.
        at: when it was read.
    """
    release = known_release(inventory)
    if not release or release != knowledge.release or order_of(release) is not DEB:
        return floor
    entries = {(entry.release, entry.source): entry for entry in floor.entries}
    grown = False
    for source, version in _reached(release, inventory, knowledge):
        known = entries.get((release, source))
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
    versions = {entry.source: entry.version for entry in floor.entries if entry.release == release}
    found = [
        Returning(
            source=finding.source,
            vulnerability=finding.vulnerability,
            installed_version=finding.installed_version,
            fixed_version=finding.fixed_version,
            floor_version=versions[finding.source],
            severity=finding.severity,
            known_exploited_on=finding.known_exploited_on,
        )
        for finding in assessment.findings
        if finding.source in versions and _was_fixed(finding, versions[finding.source])
    ]
    return tuple(sorted([*_older_release(floor, release), *found], key=_order))


def unproven(floor: Floor, inventory: Inventory, assessment: Assessment) -> tuple[str, ...]:
    """Return the sources of the floor that the state has in a version above it which no index lists.

    Such a version proves nothing: a guest may have written it. Without any index nobody can tell, and nothing
    is returned; the assessment's notes say that origins were not checked. Sorted.
    """
    release = known_release(inventory)
    versions = {entry.source: key(entry.version) for entry in floor.entries if entry.release == release}
    unlisted = {(package.package, package.version) for package in assessment.unassessed}
    if not versions or not unlisted:
        return ()
    found = {
        item.subject.source
        for item in installed(release, inventory)
        if item.subject.source in versions
        and key(item.subject.version) > versions[item.subject.source]
        and any((package.name, package.version) in unlisted for package in item.packages)
    }
    return tuple(sorted(found))


def _was_fixed(finding: Finding, floor_version: str) -> bool:
    """Tell whether a machine at its floor was without `finding` (rules 4 and 5)."""
    if not finding.fixed_version or key(floor_version) < key(finding.fixed_version):
        return False
    return not is_extended(finding.fixed_version) or is_extended(floor_version)


def _older_release(floor: Floor, release: str) -> Iterator[Returning]:
    """Yield the release itself where it is older than one that the machine had reached (rule 6)."""
    distribution, _, version = release.partition(":")
    reached = [entry.release for entry in floor.entries if entry.release.startswith(f"{distribution}:")]
    highest = max(reached, key=lambda name: key(name.partition(":")[2]), default="")
    if release and highest and key(version) < key(highest.partition(":")[2]):
        yield Returning("", "", release, highest, highest)


def _reached(release: str, inventory: Inventory, knowledge: Knowledge) -> Iterator[tuple[str, str]]:
    """Yield each source whose oldest version is listed, with this version as the list writes it (rule 2)."""
    oldest: dict[str, Installed] = {}
    for item in installed(release, inventory):
        known = oldest.setdefault(item.subject.source, item)
        if key(item.subject.version) < key(known.subject.version):
            oldest[item.subject.source] = item
    for source, item in oldest.items():
        listed = {key(version): version for version in _listed(item, knowledge)}
        version = listed.get(key(item.subject.version))
        if version is not None:
            yield source, version


def _listed(item: Installed, knowledge: Knowledge) -> Iterator[str]:
    """Yield every version of an installed source that a trusted source lists (rule 1)."""
    source = item.subject.source
    yield from (version for _suite, version in knowledge.archive.get(source, ()))
    for name in item.names:
        for entry in knowledge.index.get(name, ()):
            subject = tracked(knowledge.release, entry.source, entry.source_version, entry.version)
            if subject.source == source:
                yield subject.version
    for statement in knowledge.advisories.get(source, ()):
        if statement.status is Status.FIXED and statement.fixed_version not in {"", _NEVER_AFFECTED}:
            yield statement.fixed_version
    yield from _in_changelogs(source, item.recorded_sources, knowledge)


def _in_changelogs(source: str, recorded: Iterable[str], knowledge: Knowledge) -> Iterator[str]:
    """Yield the versions that changelogs list; a signed source's repeats what it signs."""
    yield from (entry.version for entry in knowledge.changelogs.get(source, ()))
    for signed in set(recorded) - {source}:
        yield from (signed_version(entry.version) for entry in knowledge.changelogs.get(signed, ()))


def _order(item: Returning) -> tuple[bool, bool, int, str, str]:
    return (
        bool(item.source),  # a whole release comes first
        item.known_exploited_on is None,
        severity.RANK[item.severity],
        item.source,
        item.vulnerability,
    )
