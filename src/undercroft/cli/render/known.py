"""What the imported advisories can answer at all, told from the feeds that were asked.

A count means nothing where no source was asked: without a catalog of known exploited vulnerabilities
"0 exploited" would be a lie, and so would "0 critical" where no source gives severities. Every renderer
and `--fail-on` asks here before it says 0.
"""

from collections.abc import Iterable

from undercroft.model.finding import FeedStatus
from undercroft.model.report import StateReport

CATALOG = "kev"
"""The feed of vulnerabilities that are known to be exploited."""
_TRACKERS = ("debian-tracker", "osv:Debian", "osv:Ubuntu")
"""Feeds that also know what is not fixed yet; a single OSV record (osv:DSA-1-1) does not."""
_RATING = ("debian-tracker", "osv:", "cve")
"""Feeds that carry severities."""


def knows_exploited(feeds: Iterable[FeedStatus]) -> bool:
    """Tell whether a catalog of known exploited vulnerabilities could be asked, and is not too old."""
    return any(feed.name == CATALOG and not feed.stale for feed in feeds)


def knows_severities(feeds: Iterable[FeedStatus]) -> bool:
    """Tell whether any feed could have given a severity."""
    return any(feed.name.startswith(_RATING) for feed in feeds)


def knows_unfixed(feeds: Iterable[FeedStatus]) -> bool:
    """Tell whether a tracker, which also lists what has no fix yet, could be asked, and is not too old."""
    return any(feed.name.startswith(_TRACKERS) and not feed.stale for feed in feeds)


def disk_read(state: StateReport) -> bool:
    """Tell whether all that may hold software was read; what the advisories lack is another matter."""
    if state.inventory is None:
        return False
    advisories = state.assessment.problems if state.assessment else ()
    return state.inventory.coverage.complete and not set(state.problems) - set(advisories)


def advisories_whole(state: StateReport) -> bool:
    """Tell whether the advisories could answer every question about what was read."""
    return state.assessment is not None and state.assessment.complete


def nothing_read(state: StateReport) -> bool:
    """Tell whether no package could be read, so that the rest follows from that."""
    return not disk_read(state) and (state.inventory is None or not state.inventory.packages)


def causes(state: StateReport) -> tuple[str, ...]:
    """Return the problems of a state without those that only follow from others.

    Where nothing was read, that no advisory could be matched needs no telling.
    """
    problems = tuple(dict.fromkeys(state.problems))
    if not nothing_read(state) or state.assessment is None:
        return problems
    return tuple(problem for problem in problems if problem not in state.assessment.problems) or problems
