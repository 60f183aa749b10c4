"""The mirror that this host itself uses, for real: kept off by default, since it needs the network."""

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from undercroft.adapters.apt import host_sources, verifier_for
from undercroft.adapters.download import SpoolingDownloader
from undercroft.adapters.gpgv import DISTRIBUTION_KEYRINGS
from undercroft.store.database import AdvisoryDatabase
from undercroft.usecases.changelogs import import_changelogs
from undercroft.usecases.feedresult import Outcome
from undercroft.usecases.mirror import Mirrors, import_mirrors

MAX_SECONDS = 120
KNOWN_PACKAGES = {"openssl", "libc6", "tzdata", "apt", "linux-libc-dev"}


@pytest.mark.soak
def test_the_hosts_own_mirror_is_verified_and_imported(tmp_path: Path, request: pytest.FixtureRequest):
    if "soak" not in request.config.getoption("markexpr"):
        pytest.skip("needs the network: run by make soak only")
    sources = host_sources()
    if not sources or not any(path.is_file() for path in DISTRIBUTION_KEYRINGS):
        pytest.skip("needs a host whose apt has a mirror of Debian or Ubuntu, and its keyring")
    started = time.monotonic()
    with (
        AdvisoryDatabase(tmp_path / "db", writable=True) as database,
        SpoolingDownloader(tmp_path / "spool") as downloader,
    ):
        mirrors = Mirrors(downloader, verifier_for, "amd64", datetime.now(UTC))
        results, suites = import_mirrors(database, mirrors, sources)
        if not suites and all("cannot be downloaded" in result.detail for result in results):
            pytest.skip("the host's mirror cannot be reached")
        assert {result.outcome for result in results} == {Outcome.IMPORTED}
        assert all(suite.signed_by for suite in suites)
        listed = [package for suite in suites for package in suite.packages()]
        known = [package for package in listed if package.package in KNOWN_PACKAGES]
        assert {package.package for package in known} == KNOWN_PACKAGES
        newest = {(package.source, package.source_version) for package in known}
        found = import_changelogs(database, mirrors, suites, newest)
        assert [result.outcome for result in found] == [Outcome.IMPORTED]
        assert {"openssl", "glibc", "tzdata", "apt", "linux"} <= {
            source for source, _ in database.changelog_versions(found[0].name)
        }
    assert time.monotonic() - started < MAX_SECONDS
