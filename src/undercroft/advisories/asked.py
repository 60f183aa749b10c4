"""What the imported advisories can answer at all, told from the feeds that were asked.

A count means nothing where no source was asked: without a catalog of known exploited vulnerabilities
"0 exploited" would be a lie, and so would "0 critical" where no source gives severities. Whoever counts
findings asks here before it says 0.
"""

from collections.abc import Iterable

from undercroft.model.finding import FeedStatus

CATALOG = "kev"
"""The feed of vulnerabilities that are known to be exploited."""
_TRACKERS = frozenset(("debian-tracker", "redhat-vex", "ubuntu-vex", "arch"))
_TRACKING_ARCHIVES = ("osv:Debian", "osv:Ubuntu")
"""Feeds that also know what is not fixed yet; a single record or document (osv:DSA-1-1) does not."""
_RATING = ("debian-tracker", "osv:", "cve", "redhat-vex", "suse-csaf", "arch", "microsoft")
"""Feeds that carry severities."""


def knows_exploited(feeds: Iterable[FeedStatus]) -> bool:
    """Tell whether a catalog of known exploited vulnerabilities could be asked, and is not too old."""
    return any(feed.name == CATALOG and not feed.stale for feed in feeds)


def knows_severities(feeds: Iterable[FeedStatus]) -> bool:
    """Tell whether any feed could have given a severity."""
    return any(feed.name.startswith(_RATING) for feed in feeds)


def knows_unfixed(feeds: Iterable[FeedStatus]) -> bool:
    """Tell whether a tracker, which also lists what has no fix yet, could be asked, and is not too old."""
    return any(
        (feed.name in _TRACKERS or feed.name.startswith(_TRACKING_ARCHIVES)) and not feed.stale
        for feed in feeds
    )
