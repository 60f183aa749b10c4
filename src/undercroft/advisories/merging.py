"""One finding out of those of a source package's binary packages, and which fix is better than another.

Distributions that name binary packages say the same of each that one update replaces. A user upgrades the
source's packages together, so that they are one finding: its version and its fix are those of the package
that has the best fix, and every package that is affected is named.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from undercroft.advisories.fixday import ADVISORY_IDS
from undercroft.advisories.knowledge import grouped
from undercroft.advisories.orders.order import Order
from undercroft.model.finding import Finding, FixState

_BEST_FIRST = (
    FixState.FIXABLE,
    FixState.NEEDS_SUBSCRIPTION,
    FixState.UNFIXED,
    FixState.UNDER_INVESTIGATION,
    FixState.WILL_NOT_FIX,
    FixState.OUT_OF_SUPPORT,
)
FIX_RANK = {state: rank for rank, state in enumerate(_BEST_FIRST)}


def merged(findings: Sequence[Finding], order: Order) -> Iterable[Finding]:
    """Yield one finding for each vulnerability and source package ."""
    for found in grouped(((finding.source, finding.vulnerability), finding) for finding in findings).values():
        if len(found) == 1:
            yield found[0]
            continue
        lead = min(found, key=lambda item: (FIX_RANK[item.fix], item.packages))
        yield replace(
            lead,
            packages=tuple(sorted({name for item in found for name in item.packages})),
            fixed_version=max((item.fixed_version for item in found if item.fix is lead.fix), key=order.key),
            advisories=sorted_ids({name for item in found for name in item.advisories}),
            feeds=tuple(dict.fromkeys(name for item in (lead, *found) for name in item.feeds)),
            published_on=min((item.published_on for item in found if item.published_on), default=None),
            fixed_on=min((item.fixed_on for item in found if item.fixed_on), default=None),
        )


def sorted_ids(names: Iterable[str]) -> tuple[str, ...]:
    """Return advisories' ids, the distribution's own first."""
    return tuple(sorted(names, key=lambda name: (not name.startswith(ADVISORY_IDS), name)))
