"""What changed between two states, and what going back to the first would bring back.

Pure: two states in, a `StateDiff` out. A package is the same package when name and architecture are;
newer and older are the package manager's order. A finding is the same finding when vulnerability and
source package are: what an upgrade left vulnerable is neither gained nor lost.
"""

from collections.abc import Iterable

from undercroft.advisories.orders.order import Order
from undercroft.advisories.orders.table import BY_MANAGER, DEB
from undercroft.model.diff import PackageChange, StateDiff
from undercroft.model.finding import Finding
from undercroft.model.report import StateReport


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
    old, new = _versions(before), _versions(after)
    both = [(key, old[key], new[key]) for key in sorted(old.keys() & new.keys()) if old[key] != new[key]]
    orders = _orders(after)
    ordered = [
        (PackageChange(*key, one, two), orders.get(key, DEB).compare(one, two)) for key, one, two in both
    ]
    return StateDiff(
        from_name=from_name,
        to_name=to_name,
        added=tuple(PackageChange(*key, "", new[key]) for key in sorted(new.keys() - old.keys())),
        removed=tuple(PackageChange(*key, old[key], "") for key in sorted(old.keys() - new.keys())),
        upgraded=tuple(change for change, order in ordered if order < 0),
        downgraded=tuple(change for change, order in ordered if order > 0),
        findings_gained=only_in(after, before),
        findings_lost=only_in(before, after),
        problems=(*_problems(before, from_name), *_problems(after, to_name)),
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


def _orders(state: StateReport) -> dict[tuple[str, str], Order]:
    packages = state.inventory.packages if state.inventory else ()
    return {
        (package.name, package.architecture): BY_MANAGER.get(package.manager, DEB) for package in packages
    }


def _versions(state: StateReport) -> dict[tuple[str, str], str]:
    packages = state.inventory.packages if state.inventory else ()
    return {(package.name, package.architecture): package.version for package in packages}


def _problems(state: StateReport, name: str) -> Iterable[str]:
    for problem in state.problems:
        yield f"{name}: {problem}"
    if not state.problems and (state.inventory is None or state.assessment is None):
        yield f"{name}: was not assessed"
