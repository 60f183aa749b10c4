"""The kernel that ran last is the newest one that any log names."""

import lzma
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memorymachines import Broken, File, tree_of

from undercroft.errors import InputError
from undercroft.inventory.journal import KernelStart, kernel_starts
from undercroft.inventory.lastrun import find_last_run, parse_log, parse_wtmp

JOURNALS = Path(__file__).parents[2] / "data" / "journal"
DAY_S = 86_400
AT_S = 1_730_000_000  # Sunday, 27 October 2024, 03:33:20 UTC


def record(kind: int, user: bytes, host: bytes, at_s: int) -> bytes:
    """One record of wtmp, by utmp(5) for 64-bit Linux with 32-bit times."""
    return struct.pack(
        "<h2xi32s4s32s256shhiii16s20s",
        kind,
        0,
        b"~",
        b"~~",
        user,
        host,
        0,
        0,
        0,
        at_s,
        0,
        bytes(16),
        bytes(20),
    )


BOOT = record(2, b"reboot", b"6.1.0-27-amd64", AT_S)
WTMP = BOOT + record(7, b"root", b"10.0.0.1", AT_S + 60) + record(8, b"", b"", AT_S + 90)
SYSLOG = (
    b"Oct 27 03:33:21 web01 kernel: [    0.000000] Linux version 6.1.0-26-amd64 (x) #1\n"
    b"Oct 27 03:33:22 web01 cron[1]: up\n"
)


def journal(kind: str) -> bytes:
    return lzma.decompress((JOURNALS / f"{kind}.journal.xz").read_bytes())


def test_the_last_boot_record_of_wtmp_counts() -> None:
    assert parse_wtmp(WTMP) == (b"6.1.0-27-amd64", AT_S)
    newer = record(2, b"reboot", b"6.1.0-28-amd64", AT_S + DAY_S)
    assert parse_wtmp(WTMP + newer + b"cut") == (b"6.1.0-28-amd64", AT_S + DAY_S)
    assert parse_wtmp(record(7, b"root", b"1", 1)) is None


def test_the_kernels_own_last_line_of_a_text_log_counts() -> None:
    iso = b"2024-10-27T04:33:21.5+01:00 web01 kernel: [    0.000000] Linux version 6.1.0-28-amd64 (x)\n"
    assert parse_log(SYSLOG + iso, AT_S + DAY_S) == (b"6.1.0-28-amd64", AT_S + 1.5)
    assert parse_log(SYSLOG, AT_S + DAY_S) == (b"6.1.0-26-amd64", AT_S + 1)
    assert parse_log(b"[    0.000000] kernel: Linux version 5.10.0-1 (x)\n", 77) == (b"5.10.0-1", 77)


def test_a_log_without_years_is_dated_before_its_last_change() -> None:
    december = b"Dec 31 23:00:00 h kernel: [ 0.0] Linux version 6.1 (x)\n"
    found = parse_log(december, 1_736_000_000)  # 4 January 2025
    assert found == (b"6.1", 1_735_686_000)


def test_what_another_program_logged_is_not_the_kernels_word() -> None:
    assert parse_log(b"Oct 27 03:33:21 h app[1]: Linux version 9.9 (x)\n", AT_S) is None


@pytest.mark.parametrize("kind", ["regular", "compact"])
def test_a_real_journal_tells_the_last_start_of_each_kernel(kind: str) -> None:
    assert sorted(kernel_starts(journal(kind)), key=lambda start: start.at_s) == [
        KernelStart(b"6.1.0-28-amd64", 1_730_100_000),
        KernelStart(b"6.1.0-27-amd64", 1_730_400_000),
    ]


def test_the_newest_record_of_all_logs_wins() -> None:
    files: dict[str | bytes, bytes | File] = {
        "var/log/wtmp": WTMP,
        "var/log/kern.log": File(SYSLOG, 0o640, AT_S + 10),
    }
    last = find_last_run(tree_of(files)).last
    assert last is not None
    assert (last.release, last.source) == ("6.1.0-26-amd64", "/var/log/kern.log")
    last = find_last_run(tree_of({**files, "var/log/journal/ab/system.journal": journal("compact")})).last
    assert last is not None
    assert (last.release, last.at_s) == ("6.1.0-27-amd64", 1_730_400_000)
    assert last.source == "/var/log/journal/ab/system.journal"


def test_a_long_log_is_searched_from_its_end() -> None:
    old = b"Jan  1 00:00:00 h kernel: [ 0.0] Linux version 1.0 (x)\n"
    long_log = old + b"x" * (3 << 20) + b"\n" + SYSLOG
    found = find_last_run(tree_of({"var/log/syslog": File(long_log, 0o640, AT_S + 10)})).last
    assert found is not None
    assert found.release == "6.1.0-26-amd64"


def test_logs_that_cannot_be_read_are_notes() -> None:
    answer = find_last_run(
        tree_of(
            {
                "var/log/wtmp": WTMP,
                "var/log/syslog": Broken(),
                "var/log/journal/a/system.journal": b"no journal",
            }
        )
    )
    assert answer.last is not None
    assert answer.last.release == "6.1.0-27-amd64"
    assert [note.partition(" was not")[0] for note in answer.notes] == [
        "/var/log/syslog",
        "/var/log/journal/a/system.journal",
    ]


def test_no_logs_are_no_answer() -> None:
    assert find_last_run(tree_of({"etc/": b""})).last is None


@given(st.binary(max_size=1200))
def test_any_wtmp_gives_an_answer(untrusted: bytes) -> None:
    parse_wtmp(untrusted)


@given(st.binary(max_size=100), st.binary(max_size=60), st.integers(-(2**40), 2**40))
def test_any_log_gives_an_answer(before: bytes, after: bytes, modified_at_s: int) -> None:
    parse_log(before + b" kernel: Linux version " + after, modified_at_s)
    parse_log(b"[" + before + b"Linux version 1" + after, modified_at_s)


@given(st.binary(max_size=100), st.integers(0, 400), st.binary(max_size=200))
def test_any_journal_gives_starts_or_input_error(head: bytes, position: int, rest: bytes) -> None:
    data = bytearray(b"LPKSHHRH" + bytes(400) + b"MESSAGE=Linux version 6.1 x" + rest)
    data[8 + position : 8 + position + len(head)] = head
    for untrusted in (bytes(data), head):
        with suppress(InputError):
            kernel_starts(untrusted)


REAL = journal("compact").rstrip(b"\0")


@given(st.integers(208, len(REAL) - 1), st.binary(min_size=1, max_size=8))
def test_changed_bytes_in_a_real_journal_end_well(position: int, change: bytes) -> None:
    kernel_starts(REAL[:position] + change + REAL[position + len(change) :])


@given(st.integers(0, 300), st.integers(0, 255))
def test_changed_bytes_beside_a_real_message_end_well(distance: int, value: int) -> None:
    data = bytearray(REAL)
    data[data.find(b"MESSAGE=Linux version") - distance] = value
    kernel_starts(bytes(data))
