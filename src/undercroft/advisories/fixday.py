"""The day on which a fix became available to a release.

Which dates say so, with the reasons:

1. The publisher's own advisory of the fix (DSA, DLA, USN, RHSA, ...) is dated when the fixed version was
   offered. The date of a record about the vulnerability itself (DEBIAN-CVE-..., UBUNTU-CVE-...) is that of
   the fault, and says nothing about the fix.
2. Else the changelog: the entry of the version that fixes it was finished on a day, and the version cannot
   have been offered much earlier. Where another branch's version came in, the entry that names the
   vulnerability may be years older than that: the day of the offered version counts.
3. The earliest counts: who has not installed the first fix has been without it since then.
4. Where nobody dates it, the answer is None, not a guess.
"""

from collections.abc import Iterable, Mapping
from datetime import date

from undercroft.advisories.records import Advisory, ChangelogEntry, Status, is_mirror

ADVISORY_IDS = (
    *("DSA-", "DLA-", "USN-"),
    *("ALSA-", "RLSA-", "RHSA-", "ELSA-", "SUSE-SU-", "openSUSE-SU-", "ASA-"),
    *("ALAS", "FEDORA-"),
)
"""How the distributions' own advisories are named; each is about an update that was offered."""


def changelog_days(entries: Iterable[ChangelogEntry]) -> Mapping[str, date]:
    """Return the earliest day of each version that some changelog of a source package lists."""
    days: dict[str, date] = {}
    for entry in entries:
        known = days.get(entry.version)
        days[entry.version] = min(known, entry.dated_on) if known else entry.dated_on
    return days


def fixed_on(statements: Iterable[Advisory], version_days: Mapping[str, date]) -> date | None:
    """Return the day since when a fix can be had, None where nobody dates it.

    Args:
        statements: those about one vulnerability in one source package that affect the installed version.
        version_days: `changelog_days` of the source package.
    """
    fixes = [statement for statement in statements if statement.status is Status.FIXED]
    advisories = [
        statement.published_on
        for statement in fixes
        if statement.published_on and statement.advisory.startswith(ADVISORY_IDS)  # 1
    ]
    changelogs = [
        version_days.get(statement.fixed_version) or statement.published_on  # 2
        for statement in fixes
        if is_mirror(statement.feed)
    ]
    return min(advisories or filter(None, changelogs), default=None)  # 3, 4
