"""Matching 500 packages against 100,000 advisories, database query included, without reading a disk."""

import statistics
import sys
import tempfile
import time
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))

from advisorydata import inventory, package  # noqa: E402 - values shared with the tests

from undercroft.advisories.match import assess  # noqa: E402
from undercroft.advisories.records import Advisory, FeedHeader, Status  # noqa: E402
from undercroft.store.database import AdvisoryDatabase  # noqa: E402

PACKAGES = 500
ADVISORIES = 100_000
SOURCES = 20_000
RELEASE = "debian:12"


def match_seconds(runs=15):
    """Yield (what, median seconds)."""
    now = datetime.now(UTC)
    installed = inventory(*(package(f"source{number}", "1.5-1") for number in range(PACKAGES)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "advisories.db"
        with AdvisoryDatabase(path, writable=True) as database:
            header = FeedHeader(
                "debian-tracker", now.isoformat(), now, None, 86_400, (RELEASE,), complete_for=(RELEASE,)
            )
            database.replace_feed(header, _advisories(), now)
        times, found = [], 0
        for _ in range(runs):
            started = time.perf_counter()
            with AdvisoryDatabase(path) as database:
                answer = assess(installed, database.knowledge(RELEASE, installed), now=now)
            times.append(time.perf_counter() - started)
            found = len(answer.findings)
    yield f"{PACKAGES} packages, {ADVISORIES:,} advisories, {found} findings", statistics.median(times)


def _advisories():
    """Yield advisories as a tracker has them: most were fixed before the installed version."""
    for number in range(ADVISORIES):
        fixed = "2.0-1" if number % 10 == 0 else "1.0-1"
        yield Advisory(
            feed="debian-tracker",
            release=RELEASE,
            source=f"source{number % SOURCES}",
            vulnerability=f"CVE-2024-{number:06}",
            advisory="",
            status=Status.FIXED,
            fixed_version=fixed,
            published_on=date(2024, 1, 1),
        )
