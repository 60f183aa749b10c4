"""Matching 500 packages against 100,000 advisories, database query included, without reading a disk."""

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from advisorydata import inventory, package  # noqa: E402 - values shared with the tests

from undercroft.advisories.match import assess  # noqa: E402
from undercroft.advisories.records import Advisory, FeedHeader, Status  # noqa: E402
from undercroft.model.inventory import Inventory, OsRelease, Package  # noqa: E402
from undercroft.store.database import AdvisoryDatabase  # noqa: E402

PACKAGES = 500
ADVISORIES = 100_000
SOURCES = 20_000
ALMA_9 = OsRelease("almalinux", "9.4", "", "AlmaLinux 9.4", "/etc/os-release")


@dataclass(frozen=True)
class Kind:
    """What differs between the families: the machine, and whose statements are matched with it."""

    name: str
    release: str
    feed: str
    machine: Inventory
    subject: str


def _kinds():
    """Yield a machine of source packages (Debian), and one of binary packages (rpm)."""
    debs = inventory(*(package(f"source{number}", "1.5-1") for number in range(PACKAGES)))
    yield Kind("", "debian:12", "debian-tracker", debs, "source{}")
    rpms = [
        Package("rpm", f"source{number}", "1.5-1", "x86_64", f"built{number // 4}", "1.5-1")
        for number in range(PACKAGES)
    ]
    yield Kind(" of rpm", "alma:9", "osv:AlmaLinux", inventory(*rpms, os=ALMA_9), "binary:source{}")


def match_seconds(runs=15):
    """Yield (what, median seconds)."""
    for kind in _kinds():
        yield _match_seconds(kind, runs)


def _match_seconds(kind, runs):
    now = datetime.now(UTC)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "advisories.db"
        with AdvisoryDatabase(path, writable=True) as database:
            releases = (kind.release,)
            header = FeedHeader(
                kind.feed, now.isoformat(), now, None, 86_400, releases, complete_for=releases
            )
            database.replace_feed(header, _advisories(kind), now)
        times, found = [], 0
        for _ in range(runs):
            started = time.perf_counter()
            with AdvisoryDatabase(path) as database:
                knowledge = database.knowledge(kind.release, kind.machine)
                answer = assess(kind.machine, knowledge, now=now)
            times.append(time.perf_counter() - started)
            found = len(answer.findings)
    return f"{PACKAGES} packages{kind.name}, {ADVISORIES:,} advisories, {found} findings", statistics.median(
        times
    )


def _advisories(kind):
    """Yield advisories as a tracker has them: most were fixed before the installed version."""
    for number in range(ADVISORIES):
        fixed = "2.0-1" if number % 10 == 0 else "1.0-1"
        yield Advisory(
            feed=kind.feed,
            release=kind.release,
            source=kind.subject.format(number % SOURCES),
            vulnerability=f"CVE-2024-{number:06}",
            advisory="",
            status=Status.FIXED,
            fixed_version=fixed,
            published_on=date(2024, 1, 1),
        )


if __name__ == "__main__":
    for what, seconds in match_seconds():
        print(f"{seconds * 1000:8.1f} ms  {what}")
