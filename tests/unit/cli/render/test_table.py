"""What an administrator reads after a scan."""

import re
import time
from dataclasses import replace

import pytest
import reports
from reports import assessment, finding, inventory, report, state, vulnerable

from undercroft.cli.render import table
from undercroft.cli.render.escape import cell_width
from undercroft.cli.render.terminal import Terminal
from undercroft.model.disk import Coverage, VolumeStatus
from undercroft.model.finding import EndOfLife, FixState, Severity
from undercroft.model.inventory import Boot
from undercroft.model.report import ScanReport

UNREAD = state(
    "broken", "3", inventory=None, assessment=None, problems=("vda: L2 table is gone; restore it",)
)
PARTIAL = replace(vulnerable("half", "4"), problems=("vda3 at /srv was not read: XFS is not supported",))


def shown(scan: ScanReport, width: int | None = None, *, verbose: bool = False, color: bool = False) -> str:
    return table.render(scan, Terminal(width, color), verbose=verbose)


def row(text: str, name: str) -> dict[str, str]:
    """Return the cells of a state's row by heading; only complete states have the mark's column empty."""
    lines = text.splitlines()
    heading = next(line for line in lines if "STATE" in line).split()
    line = next(line for line in lines if line.lstrip("! ").startswith(name))
    cells = re.split(r"\s{2,}", line.lstrip("! ").strip())
    return dict(zip(heading, cells, strict=True))


def test_a_row_counts_findings_by_severity_with_unknown_as_its_own() -> None:
    assert row(shown(report()), "before-upgrade") == {
        "STATE": "before-upgrade",
        "TAKEN": "2025-05-23 11:33",
        "EXPLOITED": "1",
        "CRITICAL": "1",
        "HIGH": "1",
        "MEDIUM": "1",
        "LOW": "1",
        "NEGLIGIBLE": "0",
        "UNKNOWN": "1",
        "FIXABLE": "4",
        "OUTDATED": "1",
        "PACKAGES": "2",
        "COVERAGE": "complete",
    }


def test_known_exploited_comes_first_and_stands_out() -> None:
    text = shown(report(), 80, color=True)
    assert text.index("KNOWN TO BE EXPLOITED") < text.index("REVERTING") < text.index("SYSTEM")
    assert "\x1b[1;97;41m" in text
    assert "CVE-2023-4911" in text


def test_a_sentence_says_what_a_revert_brings_back() -> None:
    assert (
        "Going back to before-upgrade brings back 5 findings, 1 known to be exploited: CVE-2023-4911; "
        "in 3 source packages: openssl (3), glibc (1), curl (1)."
    ) in " ".join(shown(report()).split())


def test_what_the_current_state_has_too_is_not_brought_back() -> None:
    current = state(assessment=assessment(reports.KEV))
    assert "brings back 4 findings" in shown(report(current, vulnerable()))


def test_a_revert_to_the_same_packages_brings_nothing_back() -> None:
    assert "Going back to same brings back nothing that is known." in shown(
        report(state(), state("same", "1"))
    )


@pytest.mark.parametrize(
    ("snapshot", "sentence"),
    [
        (UNREAD, "Going back to broken may bring back what could not be seen."),
        (PARTIAL, "Going back to half brings back at least 5 findings"),
        (
            state("old", "6", problems=("no advisories",)),
            "Going back to old may bring back what could not be seen.",
        ),
    ],
)
def test_an_incomplete_snapshot_never_reads_as_harmless(snapshot, sentence) -> None:
    text = shown(report(state(), snapshot))
    assert sentence in text
    assert "nothing that is known" not in text


def test_an_incomplete_current_state_makes_the_comparison_incomplete() -> None:
    text = shown(report(state(problems=("vda2 was not read",)), vulnerable()))
    assert "The current state is incomplete, and so is this comparison." in text


def test_counts_of_an_incomplete_state_are_lower_bounds_and_its_zeros_unknown() -> None:
    cells = row(shown(report(state(), PARTIAL)), "half")
    assert (cells["CRITICAL"], cells["NEGLIGIBLE"], cells["COVERAGE"]) == ("1+", "?", "incomplete")


def test_an_unread_state_shows_no_number_at_all() -> None:
    cells = row(shown(report(state(), UNREAD)), "broken")
    assert cells["COVERAGE"] == "unread"
    assert set(cells.values()) - {"broken", "unread", "2025-05-23 11:33"} == {"?"}


UNRATED = finding(severity=Severity.UNKNOWN, severity_source="")


def test_where_no_source_was_asked_there_is_no_zero() -> None:
    asked = report(
        state(assessment=assessment(feeds=reports.MIRROR)),
        state("old", "1", assessment=assessment(UNRATED, feeds=reports.MIRROR)),
    )
    old, current = row(shown(asked), "old"), row(shown(asked), "current")
    for severity in ("EXPLOITED", "CRITICAL", "HIGH", "MEDIUM", "LOW", "NEGLIGIBLE"):
        assert (old[severity], current[severity]) == ("?", "?")
    assert (old["UNKNOWN"], current["UNKNOWN"]) == ("1+", "?"), "no tracker tells what has no fix"
    assert (old["FIXABLE"], current["FIXABLE"]) == ("1", "0")


def test_a_catalog_that_is_too_old_gives_a_lower_bound() -> None:
    stale = tuple(replace(feed, stale=True) for feed in reports.FEEDS)
    scan = report(state(assessment=assessment(reports.KEV, feeds=stale)))
    assert row(shown(scan), "current")["EXPLOITED"] == "1+"


def test_without_a_tracker_no_finding_means_no_fix() -> None:
    text = shown(report(state(assessment=assessment(feeds=reports.MIRROR))))
    assert "No known vulnerability that has a fix." in text
    assert "No known vulnerabilities." not in text


def test_missing_advisories_leave_packages_and_coverage_as_they_were_read() -> None:
    problem = ("debian-tracker is 9 days old",)
    text = shown(report(state(assessment=assessment(problems=problem), problems=problem)))
    cells = row(text, "current")
    assert (cells["PACKAGES"], cells["COVERAGE"], cells["ADVISORIES"]) == ("2", "complete", "unknown")
    assert cells["HIGH"] == "?"
    assert "the disks were read whole; the advisories are not" in text


def test_an_unread_volume_leaves_the_advisories_whole() -> None:
    text = shown(
        report(state(inventory=inventory(reports.package("a", "1"), problems=("vda3",)), problems=("vda3",)))
    )
    cells = row(text, "current")
    assert (cells["PACKAGES"], cells["COVERAGE"], "ADVISORIES" in cells) == ("1+", "incomplete", False)
    assert "the disks were not read whole" in text


def test_the_cause_comes_first_where_nothing_was_read_and_its_consequences_not_at_all() -> None:
    cause, follows = "top.qcow2: its backing file is missing", "the operating system is unknown"
    unread = state(
        inventory=inventory(os=None, problems=(cause,)),
        assessment=assessment(problems=(follows,)),
        problems=(cause, follows),
    )
    disk = replace(report().disks[0], format="unread", size_bytes=0)
    text = shown(replace(report(unread), disks=(disk,)))
    assert text.index(cause) < text.index("STATE")
    assert follows not in text
    assert "0 bytes" not in text
    assert "SYSTEM" not in text


def test_a_disk_without_the_snapshot_is_a_note() -> None:
    data = replace(
        reports.ROOT,
        disk="vdb",
        number=0,
        status=VolumeStatus.UNREAD,
        mounts=(),
        reason="it has no snapshot 'old'",
    )
    found = inventory(reports.package("a", "1"), coverage=Coverage((reports.ROOT, data)))
    assert "vdb was not read: it has no snapshot 'old'" in shown(report(state(inventory=found)))


def test_the_sources_with_most_findings_come_first_among_equals_and_exploited_before_all() -> None:
    many = [finding(f"CVE-2024-{n:04}", "zlib") for n in range(3)]
    found = (finding(source="apt"), *many, replace(reports.KEV, severity=Severity.LOW))
    text = shown(report(state(assessment=assessment(*found))))
    listed = text[text.index("FINDINGS") : text.index("SYSTEM")]
    assert re.findall(r"^  (?:medium|low) +(\S+)", listed, re.MULTILINE) == ["glibc", "zlib", "apt"]


def test_a_pipe_gets_no_line_that_a_pager_cannot_show() -> None:
    found = [finding(f"CVE-2024-{n:05}", "linux") for n in range(2581)]
    text = shown(report(state(assessment=assessment(*found)), vulnerable()))
    assert max(map(len, text.splitlines())) < 160
    assert "CVE-2024-00000 +2580" in text


def test_every_finding_of_a_verbose_pipe_names_its_fix_on_one_line() -> None:
    title = "a title " * 60
    text = shown(report(state(assessment=assessment(replace(reports.KEV, title=title)))), verbose=True)
    assert any("glibc 2.36-9+deb12u1 → 2.36-9+deb12u3  (libc-bin" in line for line in text.splitlines())
    assert max(map(len, text.splitlines())) < 160


def test_columns_without_news_go_before_those_that_matter() -> None:
    text = shown(report(state(), state("before-upgrade", "1")), 68)
    heading = next(line for line in text.splitlines() if "STATE" in line)
    assert "PKGS" in heading
    assert "KEV" in heading
    assert "NEGL" not in heading


@pytest.mark.parametrize(("seconds", "taken"), [(3600, "2025-05-23 12:33"), (5 * 86400, "2025-05-28 ")])
def test_snapshots_of_one_day_keep_their_hour_in_a_narrow_terminal(seconds: int, taken: str) -> None:
    later = replace(vulnerable("later", "2"), created_at_s=1_748_000_000 + seconds)
    text = shown(report(state(), vulnerable(), later), 80)
    assert taken in text
    assert ("11:33" in text) is (seconds == 3600)


def test_kernels_are_shown_with_the_one_that_starts_next_and_the_one_that_ran() -> None:
    text = " ".join(shown(report()).split())
    assert "1 kernel on the disk: 6.1.0-28-amd64; 6.1.0-28-amd64 starts next; 6.1.0-25-amd64 ran last" in text
    bare = shown(report(state(inventory=inventory(reports.package("a", "1"), kernels=(), boot=Boot()))))
    assert "no kernel on the disk\n" in bare


def test_no_known_vulnerabilities_is_said_only_of_complete_reports() -> None:
    assert "No known vulnerabilities." in shown(report(state()))
    assert "No known vulnerabilities." not in shown(report(state(problems=("vda2 was not read",))))
    assert "No known vulnerabilities." not in shown(report(state(), vulnerable()))


def test_a_problem_is_told_once_with_the_states_that_have_it() -> None:
    cause = ("vda2 was not read: XFS is not supported",)
    text = shown(report(state(problems=cause), state("one", "1", problems=cause), state("two", "2")))
    assert text.count("XFS is not supported") == 1
    assert "current, one: vda2 was not read" in text


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (reports.SUPPORTED, "supported until 2026-06-10, extended support until 2028-06-30"),
        (
            EndOfLife(reports.SUPPORTED.ends_on, reports.SUPPORTED.extended_ends_on, "extended"),
            "extended support only",
        ),
        (EndOfLife(reports.SUPPORTED.ends_on, None, "ended"), "END OF LIFE since 2026-06-10"),
        (EndOfLife(None, None, "unknown"), "end of life unknown"),
    ],
)
def test_the_end_of_life_is_said_in_words(end: EndOfLife, words: str) -> None:
    assert words in shown(report(state(assessment=assessment(end_of_life=end))))


def test_stale_feeds_are_called_too_old() -> None:
    assert "debian-tracker (3 h old), kev (24 h old), epss (2 days old, too old)" in shown(report())


def test_verbose_lists_each_finding_with_its_sources() -> None:
    text = shown(report(), verbose=True)
    for fact in (
        "CVE-2023-4911     exploited since 2023-11-21  DSA-5514-1, severity by cve:cvss3.1:7.8, EPSS 71.2%",
        "glibc 2.36-9+deb12u1 → 2.36-9+deb12u3  (libc-bin, libc6, locales)",
        "openssl 1.0-1, no fix yet",
        "Looney Tunables",
        "2.36-9+deb12u3  bookworm-security",
        "no source lists this version",
        "journal replayed",
    ):
        assert fact in text


def test_a_fix_for_subscribers_is_called_that() -> None:
    esm = finding(fix=FixState.NEEDS_SUBSCRIPTION)
    text = shown(report(state(assessment=assessment(esm))), verbose=True)
    assert "fixed in 1.0-2 only with an extended subscription" in text


def test_snapshots_of_one_name_are_told_apart() -> None:
    text = shown(report(state(), state("nightly", "1"), state("nightly", "2"), state("current", "3")))
    assert all(label in text for label in ("nightly (ID 1)", "nightly (ID 2)", "current (ID 3)"))


def test_long_names_stay_distinct_in_a_narrow_terminal() -> None:
    names = [f"automatic-nightly-snapshot-{day:02}-of-the-whole-fleet" for day in range(1, 20)]
    text = shown(report(state(), *(state(name, str(number)) for number, name in enumerate(names, 1))), 80)
    rows = [re.split(r"\s{2,}", line.strip())[0] for line in text.splitlines() if "2025-05-23" in line]
    assert len(rows) == len(set(rows)) == 19


EVERYTHING = report(
    state(
        inventory=inventory(hostname=reports.EVIL, unowned_executables=3, unowned_examples=(reports.EVIL,))
    ),
    vulnerable(reports.EVIL, "5"),
    UNREAD,
    PARTIAL,
    state("漢字" * 30, "9", assessment=assessment(finding(title=reports.EVIL * 9, source=reports.EVIL))),
    machine=reports.EVIL,
    warnings=(reports.EVIL,),
    sandboxed=False,
)


@pytest.mark.parametrize("width", [60, 80, 140, None])
@pytest.mark.parametrize("verbose", [False, True])
def test_nothing_that_a_guest_wrote_reaches_the_terminal_raw(width: int | None, verbose: bool) -> None:
    text = shown(EVERYTHING, width, verbose=verbose)
    assert not set("\x1b\u202e\udcff\r") & set(text)
    assert "\\u001B[31m" in shown(EVERYTHING)
    assert "[bold]" in text, "markup is text"


@pytest.mark.parametrize("width", [60, 80, 140])
@pytest.mark.parametrize("verbose", [False, True])
def test_every_line_fits_the_terminal(width: int, verbose: bool) -> None:
    lines = shown(EVERYTHING, width, verbose=verbose).splitlines()
    assert [line for line in lines if cell_width(line) > width] == []


def test_colours_only_add_colours() -> None:
    plain = shown(EVERYTHING, 80).splitlines()
    coloured = re.sub(r"\x1b\[[0-9;]*m", "", shown(EVERYTHING, 80, color=True)).splitlines()
    assert [line.strip() for line in coloured] == [line.strip() for line in plain]


def test_a_fleet_of_snapshots_is_short_and_quick() -> None:
    severities = list(Severity)
    findings = tuple(
        finding(f"CVE-2024-{n:05}", f"source{n % 200}", severity=severities[n % 6]) for n in range(3000)
    )
    snapshots = [
        state(f"nightly-{n:02}", str(n), assessment=assessment(*findings[n // 10 :])) for n in range(1, 51)
    ]
    started_at_s = time.process_time()
    text = shown(report(state(), *snapshots), 80)
    assert time.process_time() - started_at_s < 3
    assert len(text.splitlines()) < 90
    assert "nightly-01, nightly-02, nightly-03 and 6 more states" in text


def test_a_report_without_states_is_still_a_report() -> None:
    assert "0 states" in shown(replace(report(), states=()))
