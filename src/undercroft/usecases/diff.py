"""What changed between two states, and what going back to the first would bring back.

Pure: two states in, a `StateDiff` out. A package is the same package when manager, name and architecture
are; newer and older are the package manager's order, and where none of a manager is known, a package has
changed and no more. Where a state holds several versions of a package, as rpm does of kernels, none is
another's successor: each that came or went is told by itself. A finding is the same finding when
vulnerability and source package are: what an upgrade left vulnerable is neither gained nor lost.
"""

from collections.abc import Iterable, Mapping, Set
from typing import NamedTuple

from undercroft.advisories.orders.order import Order, encoded
from undercroft.advisories.orders.table import BY_MANAGER
from undercroft.model.diff import PackageChange, StateDiff
from undercroft.model.finding import Finding
from undercroft.model.report import StateReport


class _Key(NamedTuple):
    """What makes packages of two states the same package, in the order in which they are listed."""

    name: str
    architecture: str
    manager: str

    @property
    def order(self) -> Order | None:
        return BY_MANAGER.get(self.manager)

    def compare(self, one: str, two: str) -> int | None:
        """Return how versions stand to each other, None where nobody knows."""
        return self.order.compare(one, two) if self.order else None

    def sorted(self, versions: Set[str]) -> list[str]:
        key = self.order.key if self.order else encoded
        return sorted(versions, key=lambda version: (key(version), version))

    def change(self, from_version: str, to_version: str) -> PackageChange:
        return PackageChange(self.manager, self.name, self.architecture, from_version, to_version)


_Held = dict[_Key, set[str]]
"""The versions of each package that a state has."""


def diff_states(
    before: StateReport, after: StateReport, *, from_name: str = "", to_name: str = ""
) -> StateDiff:
    """Return what changed from `before` to `after`.

    Args:
        before: the state to start from.
        after: the state to arrive at.
        from_name: what the user calls `before`, its own name by default.
        to_name: what the user calls `after`, its own name by default.
    """
    from_name, to_name = from_name or before.name, to_name or after.name
    old, new = _held(before), _held(after)
    replaced = [
        (key.change(one, two), key.compare(one, two))
        for key in sorted(old.keys() & new.keys())
        for one, two in _replaced(old[key], new[key])
    ]
    return StateDiff(
        from_name=from_name,
        to_name=to_name,
        added=tuple(key.change("", version) for key, version in _more(new, old)),
        removed=tuple(key.change(version, "") for key, version in _more(old, new)),
        upgraded=tuple(change for change, order in replaced if order is not None and order < 0),
        downgraded=tuple(change for change, order in replaced if order is not None and order > 0),
        changed=tuple(change for change, order in replaced if order is None),
        findings_gained=only_in(after, before),
        findings_lost=only_in(before, after),
        problems=(*_problems(before, from_name), *_problems(after, to_name)),
        managers=tuple(sorted({key.manager for key in old.keys() | new.keys()})),
    )


def only_in(state: StateReport, other: StateReport) -> tuple[Finding, ...]:
    """Return the findings of `state` that `other` does not have, in their order.

    With a snapshot and the current state: what a revert brings back. An unassessed `other` has none,
    so ask for both states' completeness before relying on the count.
    """
    known = {_identity(finding) for finding in _findings(other)}
    return tuple(finding for finding in _findings(state) if _identity(finding) not in known)


def _identity(finding: Finding) -> tuple[str, str]:
    return finding.vulnerability, finding.source


def _findings(state: StateReport) -> Iterable[Finding]:
    return state.assessment.findings if state.assessment else ()


def _held(state: StateReport) -> _Held:
    held: _Held = {}
    for package in state.inventory.packages if state.inventory else ():
        held.setdefault(_Key(package.name, package.architecture, package.manager), set()).add(package.version)
    return held


def _replaced(old: Set[str], new: Set[str]) -> Iterable[tuple[str, str]]:
    """Yield the version and the one in its place, where both states have a single one."""
    if len(old) == len(new) == 1 and old != new:
        yield from zip(old, new, strict=True)


def _more(held: Mapping[_Key, Set[str]], other: Mapping[_Key, Set[str]]) -> Iterable[tuple[_Key, str]]:
    """Yield what `held` has and `other` has not, unless it stands in the place of another version."""
    for key in sorted(held):
        before = other.get(key, frozenset[str]())
        if not (len(held[key]) == len(before) == 1):
            yield from ((key, version) for version in key.sorted(held[key] - before))


def _problems(state: StateReport, name: str) -> Iterable[str]:
    for problem in state.problems:
        yield f"{name}: {problem}"
    if not state.problems and (state.inventory is None or state.assessment is None):
        yield f"{name}: was not assessed"
