"""What a state of a machine proves to have fixed: for each subject of the advisories one listed version.

Where package indexes and changelogs list each version that was ever offered (Debian, Ubuntu), exactly these
count. Others have publishers' fixed versions alone, and most updates that a machine installs stand between
two of them: there the highest fixed version at or below the installed one counts, in the publisher's own
words. That is what every judgement of the machine takes for fixed as well, and it is never above what the
publisher has fixed, whatever a guest writes. Nothing at all is proved

- by a version in another epoch than the fix below it: "999:1" is of no line of the package's;
- by a build of another release or vendor (`advisories.origins`), and by what is no version at all;
- by an extended stream's fix to a build of another minor release, as in `advisories.verdict`.

A package of a module's stream has its subject of that stream. What an erratum says of any stream of a module
speaks of each.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from undercroft.advisories import origins
from undercroft.advisories.families import order_of
from undercroft.advisories.installed import Installed, installed
from undercroft.advisories.knowledge import Knowledge
from undercroft.advisories.orders.order import Order
from undercroft.advisories.orders.table import DEB
from undercroft.advisories.records import ANY_STREAM, Advisory, Status
from undercroft.advisories.sources import Subject, signed_version, tracked
from undercroft.advisories.verdict import minor_release
from undercroft.errors import InputError
from undercroft.model.inventory import Inventory

_NEVER_AFFECTED = "0"  # a publisher's way to write it; no version
_IN_ANY_STREAM = f"@{ANY_STREAM}"


class Reached(NamedTuple):
    """What a state proves of one subject.

    Attributes:
        subject: its name.
        version: listed.
        lacks: the publisher has fixed something in it that the state has not.
    """

    subject: str
    version: str
    lacks: bool = False


def reached(release: str, inventory: Inventory, knowledge: Knowledge) -> Iterator[Reached]:
    """Yield what a state proves; each subject once.

    Of several versions that are installed together the oldest counts.

    Args:
        release: release key of the state.
        inventory: the state, untrusted.
        knowledge: gathered for it.
    """
    order = order_of(release)
    oldest: dict[str, tuple[Installed, Subject]] = {}
    for item in installed(release, inventory):
        for subject in own_subjects(item):
            known = oldest.setdefault(subject.source, (item, subject))
            if order.key(subject.version) < order.key(known[1].version):
                oldest[subject.source] = item, subject
    for name, (item, subject) in oldest.items():
        if order is not DEB:
            yield from _at_or_below(item, subject, order, knowledge)
        elif version := _exactly(item, order, _listed(item, knowledge)):
            yield Reached(name, version)


def own_subjects(item: Installed) -> tuple[Subject, ...]:
    """Return the subjects that mean an installed version itself, and no whole module whatever its stream."""
    return tuple(one for one in (item.subject, *item.others) if not one.source.endswith(_IN_ANY_STREAM))


def epoch(version: str) -> str:
    """Return the digits before a version's colon without leading zeros, "" for an epoch of 0 and for none."""
    return version.partition(":")[0].lstrip("0") if ":" in version else ""


def _exactly(item: Installed, order: Order, listed: Iterable[str]) -> str | None:
    versions = {order.key(version): version for version in listed}
    return versions.get(order.key(item.subject.version))


def _at_or_below(item: Installed, subject: Subject, order: Order, knowledge: Knowledge) -> Iterator[Reached]:
    """Yield the highest fix of `subject` that its installed version has; nothing where it proves none."""
    feeds = [edition.header.name for edition in knowledge.editions]
    if any(origins.foreign(knowledge.release, package, feeds) for package in item.packages):
        return
    try:
        order.check(subject.version)
    except InputError:
        return
    at_most = order.key(subject.version)
    fixes = [one for one in _fixes(subject, knowledge) if _is_of_its_stream(one, subject)]
    below = [one.fixed_version for one in fixes if order.key(one.fixed_version) <= at_most]
    highest = max(below, key=order.key, default=None)
    if highest is not None and epoch(highest) == epoch(subject.version):
        version = _last_build(fixes, at_most, order) or highest
        has = max(at_most, order.key(version))
        lacks = any(order.key(one.fixed_version) > has for one in fixes)
        yield Reached(subject.source, version, lacks)


def _last_build(fixes: Sequence[Advisory], installed: bytes, order: Order) -> str:
    """Return the highest build of the errata that list the installed one as fixed too, "" for none above it.

    An erratum may have several builds of one update, as of modules; what is found in older states names the
    highest. Where another erratum fixes something between them, the builds are not the same update.
    """
    keys = [(order.key(one.fixed_version), one) for one in fixes]
    errata = {one.advisory for key, one in keys if key == installed and one.advisory}
    last, version = max(
        ((key, one.fixed_version) for key, one in keys if one.advisory in errata), default=(installed, "")
    )
    if last == installed or any(installed < key <= last and one.advisory not in errata for key, one in keys):
        return ""
    return version


def _fixes(subject: Subject, knowledge: Knowledge) -> Iterator[Advisory]:
    package, _, module = subject.source.partition("@")
    names = (subject.source, f"{package}{_IN_ANY_STREAM}") if module else (subject.source,)
    for name in names:
        for statement in knowledge.advisories.get(name, ()):
            if statement.status is Status.FIXED and statement.fixed_version not in {"", _NEVER_AFFECTED}:
                yield statement


def _is_of_its_stream(statement: Advisory, subject: Subject) -> bool:
    return not statement.stream or minor_release(statement.fixed_version) == minor_release(subject.version)


def _listed(item: Installed, knowledge: Knowledge) -> Iterator[str]:
    """Yield every version of an installed source that a trusted source lists."""
    source = item.subject.source
    yield from (version for _suite, version in knowledge.archive.get(source, ()))
    for name in item.names:
        for entry in knowledge.index.get(name, ()):
            subject = tracked(knowledge.release, entry.source, entry.source_version, entry.version)
            if subject.source == source:
                yield subject.version
    yield from (statement.fixed_version for statement in _fixes(item.subject, knowledge))
    yield from _in_changelogs(source, item.recorded_sources, knowledge)


def _in_changelogs(source: str, recorded: Iterable[str], knowledge: Knowledge) -> Iterator[str]:
    """Yield the versions that changelogs list; a signed source's repeats what it signs."""
    yield from (entry.version for entry in knowledge.changelogs.get(source, ()))
    for signed in set(recorded) - {source}:
        yield from (signed_version(entry.version) for entry in knowledge.changelogs.get(signed, ()))
