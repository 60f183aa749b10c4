"""The traps of matching Debian packages, one test each."""

from datetime import date, timedelta

import pytest
from advisorydata import (
    CVES,
    DSA,
    EPSS,
    KEV,
    MIRROR,
    NOW,
    OSV,
    TRACKER,
    assessed,
    header,
    inventory,
    listed,
    package,
    statement,
)

from undercroft.advisories.records import ExploitProbability, KnownExploited, Status, Vulnerability
from undercroft.model.finding import FixState, Severity

OPENSSL = package("libssl3", "3.0.11-1", source="openssl")


def names(assessment) -> list[str]:
    return [finding.vulnerability for finding in assessment.findings]


def test_a_package_is_matched_by_its_source_name_and_not_by_its_own() -> None:
    feed = [statement(TRACKER, "openssl", "CVE-1", "3.0.13-1"), statement(TRACKER, "libssl3", "CVE-2")]
    answer = assessed(inventory(OPENSSL), (TRACKER, feed))
    (finding,) = answer.findings
    assert (finding.vulnerability, finding.source, finding.packages) == ("CVE-1", "openssl", ("libssl3",))
    assert (finding.installed_version, finding.fixed_version) == ("3.0.11-1", "3.0.13-1")
    assert finding.fix is FixState.FIXABLE
    assert answer.complete


def test_a_package_is_matched_by_its_source_version_and_not_by_its_own() -> None:
    gcc = package("gcc", "4:12.2.0-3", source="gcc-defaults", source_version="1.203")
    rebuilt = package("bash", "5.2.15-2+b7", source_version="5.2.15-2")
    feed = [
        statement(TRACKER, "gcc-defaults", "CVE-1", "2.0"),
        statement(TRACKER, "bash", "CVE-2", "5.2.15-2+b1"),
    ]
    assert names(assessed(inventory(gcc, rebuilt), (TRACKER, feed))) == ["CVE-2", "CVE-1"]


@pytest.mark.parametrize(
    ("installed", "affected"), [("1.0-1", True), ("1.0-2", False), ("1.0-2+deb12u1", False)]
)
def test_the_fixed_version_itself_is_fixed(installed: str, affected: bool) -> None:
    feed = [statement(TRACKER, "zlib", "CVE-1", "1.0-2")]
    assert bool(assessed(inventory(package("zlib", installed)), (TRACKER, feed)).findings) is affected


def test_binary_packages_of_one_source_make_one_finding() -> None:
    machine = inventory(
        OPENSSL,
        package("openssl", "3.0.11-1"),
        package("libssl3", "3.0.11-1", "openssl", architecture="i386"),
    )
    (finding,) = assessed(machine, (TRACKER, [statement(TRACKER, "openssl", "CVE-1")])).findings
    assert finding.packages == ("libssl3", "openssl")


def test_fixed_version_zero_means_never_affected() -> None:
    feed = [statement(TRACKER, "zlib", "CVE-1", "0", status=Status.FIXED)]
    answer = assessed(inventory(package("zlib", "0~pre1")), (TRACKER, feed))
    assert answer.findings == ()
    assert answer.complete


def test_fixed_without_a_version_is_not_fixed() -> None:
    feed = [statement(TRACKER, "zlib", "CVE-1", status=Status.FIXED)]
    (finding,) = assessed(inventory(package("zlib", "1.0-1")), (TRACKER, feed)).findings
    assert finding.fix is FixState.UNFIXED


def test_versions_below_the_one_that_introduced_the_fault_are_not_affected() -> None:
    feed = [statement(OSV, "zlib", "CVE-1", "3.0-1", introduced_version="2.0")]
    for installed, affected in (("1.9-1", False), ("2.0", True), ("2.5-1", True), ("3.0-1", False)):
        assert bool(assessed(inventory(package("zlib", installed)), (OSV, feed)).findings) is affected


def test_an_unfixed_vulnerability_is_a_finding_without_a_version() -> None:
    (finding,) = assessed(inventory(OPENSSL), (TRACKER, [statement(TRACKER, "openssl", "CVE-1")])).findings
    assert (finding.fix, finding.fixed_version) == (FixState.UNFIXED, "")


def test_a_fix_above_what_the_archive_offers_is_unfixed() -> None:
    feed = [statement(TRACKER, "openssl", "CVE-1", "3.0.15-1")]
    index = [listed("libssl3", "3.0.13-1", "openssl")]
    (finding,) = assessed(inventory(OPENSSL), (TRACKER, feed), (MIRROR, index)).findings
    assert (finding.fix, finding.fixed_version) == (FixState.UNFIXED, "3.0.15-1")
    (finding,) = assessed(inventory(OPENSSL), (TRACKER, feed)).findings
    assert finding.fix is FixState.FIXABLE, "without an index nobody knows better than the tracker"


def test_a_stale_index_does_not_say_that_a_fix_cannot_be_had() -> None:
    feed = [statement(TRACKER, "openssl", "CVE-1", "3.0.15-1")]
    old = header("mirror:debian:12:bookworm-security", published_at=NOW - timedelta(days=9))
    (finding,) = assessed(
        inventory(OPENSSL), (TRACKER, feed), (old, [listed("libssl3", "3.0.13-1", "openssl")])
    ).findings
    assert finding.fix is FixState.FIXABLE


def test_undetermined_is_a_finding_that_says_so_and_never_clean() -> None:
    feed = [statement(TRACKER, "openssl", "CVE-1", status=Status.UNDETERMINED, title="leak")]
    (finding,) = assessed(inventory(OPENSSL), (TRACKER, feed)).findings
    assert (finding.fix, finding.severity, finding.title) == (
        FixState.UNFIXED,
        Severity.UNKNOWN,
        "undetermined: leak",
    )


def test_the_highest_fixed_version_of_a_feed_wins() -> None:
    feed = [
        statement(DSA, "openssl", "CVE-1", "3.0.12-1", advisory="DSA-1-1"),
        statement(DSA, "openssl", "CVE-1", "3.0.13-1", advisory="DSA-1-2"),
    ]
    machine = inventory(package("libssl3", "3.0.12-1", source="openssl"))
    (finding,) = assessed(machine, (DSA, feed)).findings
    assert (finding.fixed_version, finding.advisories) == ("3.0.13-1", ("DSA-1-2",))


def test_tracker_list_osv_and_changelog_about_one_vulnerability_make_one_finding() -> None:
    answer = assessed(
        inventory(OPENSSL),
        (TRACKER, [statement(TRACKER, "openssl", "CVE-1", "3.0.13-1")]),
        (OSV, [statement(OSV, "openssl", "CVE-1", "3.0.13-1", advisory="DEBIAN-CVE-1")]),
        (
            DSA,
            [
                statement(
                    DSA, "openssl", "CVE-1", "3.0.13-1", advisory="DSA-1-1", published_on=date(2025, 5, 1)
                )
            ],
        ),
    )
    (finding,) = answer.findings
    assert finding.advisories == ("DSA-1-1", "DEBIAN-CVE-1")
    assert finding.feeds == ("debian-tracker", "debian-dsa", "osv:Debian:12")
    assert finding.published_on == date(2025, 5, 1)


def test_the_tracker_overrules_older_statements_of_others() -> None:
    others = (
        (OSV, [statement(OSV, "openssl", "CVE-1")]),
        (DSA, [statement(DSA, "openssl", "CVE-1", "3.0.99-1", published_on=date(2025, 5, 1))]),
    )
    assert names(assessed(inventory(OPENSSL), *others)) == ["CVE-1"]
    for status, fixed in ((Status.NOT_AFFECTED, ""), (Status.FIXED, "3.0.11-1")):
        tracker = [statement(TRACKER, "openssl", "CVE-1", fixed, status=status)]
        assert names(assessed(inventory(OPENSSL), (TRACKER, tracker), *others)) == []


def test_an_advisory_newer_than_the_trackers_edition_counts_beside_it() -> None:
    tracker = header("debian-tracker", complete=True, published_at=NOW - timedelta(days=2))
    dsa = [statement(DSA, "openssl", "CVE-1", "3.0.13-1", published_on=NOW.date(), advisory="DSA-2-1")]
    for status in (Status.NOT_AFFECTED, Status.UNFIXED):
        old = [statement(tracker, "openssl", "CVE-1", status=status)]
        (finding,) = assessed(inventory(OPENSSL), (tracker, old), (DSA, dsa)).findings
        assert (finding.fix, finding.fixed_version) == (FixState.FIXABLE, "3.0.13-1")


def test_of_two_whole_feeds_the_tracker_itself_decides_and_not_its_copy() -> None:
    copy = header("osv:Debian:12", complete=True)
    tracker = header("zz-tracker", complete=True)
    fixed = [statement(tracker, "openssl", "CVE-1", "3.0.11-1")]
    outdated_word = [statement(copy, "openssl", "CVE-1")]
    assert names(assessed(inventory(OPENSSL), (copy, outdated_word), (tracker, fixed))) == []


def test_a_stale_tracker_overrules_nobody() -> None:
    tracker = header("debian-tracker", complete=True, published_at=NOW - timedelta(days=9))
    old = [statement(tracker, "openssl", "CVE-1", status=Status.NOT_AFFECTED)]
    assert names(
        assessed(inventory(OPENSSL), (tracker, old), (OSV, [statement(OSV, "openssl", "CVE-1")]))
    ) == ["CVE-1"]


def test_without_a_tracker_one_feed_that_says_affected_is_enough() -> None:
    answer = assessed(
        inventory(OPENSSL),
        (OSV, [statement(OSV, "openssl", "CVE-1", status=Status.NOT_AFFECTED)]),
        (DSA, [statement(DSA, "openssl", "CVE-1", "3.0.13-1")]),
    )
    assert names(answer) == ["CVE-1"]


def test_a_half_installed_package_counts_as_installed_and_a_removed_one_does_not() -> None:
    feed = [statement(TRACKER, "openssl", "CVE-1"), statement(TRACKER, "zlib", "CVE-2")]
    machine = inventory(
        package("libssl3", "3.0.11-1", "openssl", status="half-installed"),
        package("zlib", "1.0-1", status="config-files"),
    )
    assert names(assessed(machine, (TRACKER, feed))) == ["CVE-1"]


def test_the_distributions_own_severity_comes_before_the_cve_record_and_that_before_others() -> None:
    record = Vulnerability("cve", "CVE-1", Severity.CRITICAL, "cve:cvss3.1:9.8", None, "a title")
    own = statement(TRACKER, "openssl", "CVE-1", severity=Severity.LOW, severity_source="debian:urgency")
    silent = statement(TRACKER, "openssl", "CVE-1")
    osv = statement(OSV, "openssl", "CVE-1", severity=Severity.MEDIUM, severity_source="osv:cvss3.1:5.0")

    def severity(tracker, records):
        (finding,) = assessed(
            inventory(OPENSSL), (TRACKER, [tracker]), (OSV, [osv]), (CVES, records)
        ).findings
        return finding.severity, finding.severity_source

    assert severity(own, [record]) == (Severity.LOW, "debian:urgency")
    assert severity(silent, [record]) == (Severity.CRITICAL, "cve:cvss3.1:9.8")
    assert severity(silent, []) == (Severity.MEDIUM, "osv:cvss3.1:5.0")


def test_a_severity_that_nobody_gives_is_unknown() -> None:
    (finding,) = assessed(inventory(OPENSSL), (TRACKER, [statement(TRACKER, "openssl", "CVE-1")])).findings
    assert (finding.severity, finding.severity_source) == (Severity.UNKNOWN, "")


def test_a_rejected_cve_record_gives_no_severity_and_takes_nothing_away() -> None:
    record = Vulnerability("cve", "CVE-1", Severity.CRITICAL, "cve:cvss3.1:9.8", None, "gone", rejected=True)
    (finding,) = assessed(
        inventory(OPENSSL), (TRACKER, [statement(TRACKER, "openssl", "CVE-1")]), (CVES, [record])
    ).findings
    assert (finding.severity, finding.title) == (Severity.UNKNOWN, "")


def test_known_exploited_ones_come_first_then_the_worst() -> None:
    feed = [
        statement(TRACKER, "openssl", f"CVE-{number}", severity=severity, severity_source="debian:urgency")
        for number, severity in enumerate(
            [Severity.LOW, Severity.UNKNOWN, Severity.HIGH, Severity.NEGLIGIBLE]
        )
    ]
    answer = assessed(
        inventory(OPENSSL),
        (TRACKER, feed),
        (KEV, [KnownExploited("CVE-3", date(2025, 1, 2))]),
        (EPSS, [ExploitProbability("CVE-2", 0.25, date(2026, 3, 1))]),
    )
    assert names(answer) == ["CVE-3", "CVE-2", "CVE-0", "CVE-1"]
    assert answer.findings[0].known_exploited_on == date(2025, 1, 2)
    assert [finding.exploit_probability for finding in answer.findings] == [None, 0.25, None, None]


def test_names_with_undecodable_bytes_are_matched_without_an_error() -> None:
    machine = inventory(package("evil\udcff", "1.0\udc80", source="evil\udcff"))
    answer = assessed(machine, (TRACKER, [statement(TRACKER, "openssl", "CVE-1")]))
    assert answer.problems == ("1 packages with a malformed version are not assessed: evil\udcff",)
