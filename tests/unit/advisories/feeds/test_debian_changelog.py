from datetime import date

import pytest
from feedfixtures import changelog_text

from undercroft.advisories.feeds import debian_changelog
from undercroft.advisories.feeds.debian_changelog import changelog_entries
from undercroft.advisories.records import ChangelogEntry
from undercroft.errors import InputError

TEXT = changelog_text("example", "1:1.0-2+deb12u1")
TRAILER = " -- A <a@example.org>  Mon, 10 Feb 2025 09:00:00 +0100\n"


def entries(text: str | bytes) -> list[ChangelogEntry]:
    return changelog_entries(text.encode() if isinstance(text, str) else text, "changelog")


def test_each_version_has_its_date_and_each_cve_number_once():
    newest, oldest = entries(TEXT)
    assert newest == ChangelogEntry(
        source="example",
        version="1:1.0-2+deb12u1",
        dated_on=date(2025, 2, 10),
        vulnerabilities=("CVE-2025-11111", "CVE-2025-22222"),
        title="CVE-2025-11111: a buffer overflow in the parser",
    )
    assert (oldest.version, oldest.vulnerabilities) == ("1.0-1", ())
    assert oldest.title == "", "says nothing of a fault"


def test_numbers_in_lower_case_and_after_other_letters_count():
    text = f"a (1) unstable; urgency=low\n\n  * d/p/cve-2025-33333.patch, fixes CVE-2025-44444)\n\n{TRAILER}"
    assert entries(text)[0].vulnerabilities == ("CVE-2025-33333", "CVE-2025-44444")


@pytest.mark.parametrize(
    ("lines", "title"),
    [
        (["  * Fix a crash (CVE-2026-1111)"], "Fix a crash (CVE-2026-1111)"),
        (
            ["  * Team upload.", "  * Packages built with the", "    fix for CVE-2026-1111 depend on it."],
            "Packages built with the fix for CVE-2026-1111 depend on it.",
        ),
        (
            ["  * New:", "    - CVE-2026-1111: a stack", "      overflow", "    - b"],
            "CVE-2026-1111: a stack overflow",
        ),
        (["  [ A Name ]", "  * d/p/CVE-2026-1111.patch: Import patch to fix", "    CVE-2026-1111"], ""),
        (["  * debian/patches/fix-a-crash.patch (CVE-2026-1111)"], ""),
        (["  * Fix a leak", "    in x", "  (CVE-2026-2222)."], "Fix a leak in x (CVE-2026-2222)."),
        (["  * CVE-2026-1111, CVE-2026-2222"], ""),
        (["  - Security fixes", "  (closes: #1016543, CVE-2026-1111)."], ""),
        (["  CVE-2026-1111 stands outside of any list"], ""),
        (["  * Raise the standards version"], "Raise the standards version"),
    ],
)
def test_a_title_is_the_whole_point_that_names_a_number_or_none(lines, title):
    text = "\n".join(["a (1) unstable; urgency=low", "", *lines, "", TRAILER])
    assert entries(text)[0].title == title


def test_a_date_that_no_calendar_knows_is_the_one_above():
    bad = "a (1) unstable; urgency=low\n\n  * x\n\n -- A <a@example.org>  Fri, 31 Feb 2004 25:00:00 +0100\n"
    found = entries(f"a (2) unstable; urgency=low\n\n  * y\n\n{TRAILER}\n{bad}")
    assert [entry.dated_on for entry in found] == [date(2025, 2, 10)] * 2


def test_an_entry_without_a_trailer_is_kept():
    found = entries(
        f"a (2) unstable; urgency=low\n\n  * y\n\n{TRAILER}\na (1) unstable; urgency=low\n\n  * x\n"
    )
    assert [entry.version for entry in found] == ["2", "1"]


def test_what_stands_below_in_no_format_ends_it():
    tail = "\nOld Changelog:\n\nsome (1) text; CVE-2000-0001\n\nLocal variables:\nmode: x\n"
    assert len(entries(TEXT.decode() + tail)) == 2
    trimmed = "\n# Older entries have been removed from this changelog.\n"
    assert len(entries(TEXT.decode() + trimmed)) == 2


def test_undecodable_bytes_are_replaced_and_control_characters_kept():
    newest = entries(TEXT.replace(b"a buffer", b"\xff\x1b[31m buffer"))[0]
    assert "\ufffd\x1b[31m" in newest.title


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no entry"),
        ("\n\n", "holds no entry"),
        ("upstream changelog 1.0\n* x\n", "no Debian changelog"),
        ("a (1) unstable; urgency=low\n\n  * x\n", "has no date"),
        (f"a (1$2) unstable; urgency=low\n\n  * x\n\n{TRAILER}", "is not a version"),
    ],
)
def test_what_is_no_changelog_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        entries(text)


def test_the_number_of_entries_is_bounded(monkeypatch):
    monkeypatch.setattr(debian_changelog, "MAX_ENTRIES", 1)
    with pytest.raises(InputError, match="more than 1 entries"):
        entries(TEXT)


def test_a_hostile_line_takes_no_time_to_match():
    hostile = TEXT + b" -- " + b"<" * 100_000 + b"\n" + b"a (" + b"1" * 100_000 + b"\n"
    assert len(entries(hostile)) == 2
