"""The kernel that ran last, as the guest's own logs record it.

Guarantees: bounded reads, and the newest record by its own time wins: boot records of wtmp (utmp(5)),
the kernel's first line ("Linux version") in the text logs, and the systemd journal. Logs that cannot be
read only take away their say: they hold no software.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from undercroft.disks.filesystem import FileStat
from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree, WalkLimits
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory.journal import kernel_starts

WTMP = b"/var/log/wtmp"
TEXT_LOGS = (b"/var/log/kern.log", b"/var/log/syslog", b"/var/log/messages", b"/var/log/dmesg")
JOURNALS = b"/var/log/journal"

UTMP_RECORD_BYTES = 384
MAX_WTMP_BYTES = 1000 * UTMP_RECORD_BYTES
MAX_LOG_BYTES = 2 << 20
MAX_KERNEL_LINES = 10_000
MAX_PREFIX_BYTES = 512
"""What a log writes before a message: time, host, tag."""

MAX_JOURNAL_BYTES = 16 << 20
MAX_JOURNALS_READ = 2
MAX_JOURNAL_FILES = 2000

_BOOT_TIME = 2
_UTMP = struct.Struct("<h2xi32s4s32s256shhiii16s20s")
_RELEASE = re.compile(rb"[0-9][\w.+~-]{0,64}")
_KERNEL_LINE = b"Linux version "
_DAY_S = 86_400
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STAMP = re.compile(r"([A-Z][a-z]{2}) {1,2}([0-9]{1,2}) ([0-9]{2}):([0-9]{2}):([0-9]{2})", re.ASCII)


@dataclass(frozen=True, slots=True)
class LastRun:
    """A kernel that ran, when it started, and the guest's file that says so."""

    release: str
    at_s: float
    source: str


@dataclass(frozen=True, slots=True)
class LastRunAnswer:
    """The newest record, None where the logs name none; and logs that could not be read."""

    last: LastRun | None
    notes: tuple[str, ...] = ()


def find_last_run(tree: GuestTree) -> LastRunAnswer:
    """Return the kernel that ran last according to the logs in `tree`."""
    found: list[LastRun] = []
    notes: list[str] = []
    sources: list[tuple[bytes, Callable[[GuestTree, bytes], Iterator[LastRun]]]] = [(WTMP, _wtmp)]
    sources += [(path, _text_log) for path in TEXT_LOGS]
    sources += [(path, _journal) for path in _newest_journals(tree, notes)]
    for path, read in sources:
        try:
            found += read(tree, path)
        except NotFoundError:
            continue
        except InputError as error:
            notes.append(f"{text(path)} was not searched for the last kernel: {error}")
    return LastRunAnswer(max(found, key=lambda run: run.at_s, default=None), tuple(notes))


def parse_wtmp(untrusted: bytes) -> tuple[bytes, int] | None:
    """Return (release, seconds) of the last boot in the records at the end of a wtmp file."""
    usable = len(untrusted) - len(untrusted) % UTMP_RECORD_BYTES
    for offset in range(usable - UTMP_RECORD_BYTES, -1, -UTMP_RECORD_BYTES):
        record = _UTMP.unpack_from(untrusted, offset)
        if record[0] != _BOOT_TIME:
            continue
        release = record[5].partition(b"\0")[0]
        if _RELEASE.fullmatch(release):
            return release, record[9]
    return None


def parse_log(untrusted: bytes, modified_at_s: int) -> tuple[bytes, float] | None:
    """Return (release, seconds) of the last kernel start in a text log.

    Lines that carry no date get `modified_at_s`; those without a year get the year that puts them
    before it.
    """
    end = len(untrusted)
    for _ in range(MAX_KERNEL_LINES):
        at = untrusted.rfind(_KERNEL_LINE, 0, end)
        if at < 0:
            return None
        match = _RELEASE.match(untrusted, at + len(_KERNEL_LINE))
        before = untrusted[max(0, at - MAX_PREFIX_BYTES) : at].rpartition(b"\n")[2]
        # The kernel's own line: its tag or its clock, and nothing that a user's program logged.
        if match and (b" kernel: " in before or before.startswith(b"[")):
            return match[0], _stamp_s(before.decode("ascii", "replace"), modified_at_s)
        end = at
    return None


def _wtmp(tree: GuestTree, path: bytes) -> Iterator[LastRun]:
    size = tree.stat(path).size_bytes
    start = max(0, size - size % UTMP_RECORD_BYTES - MAX_WTMP_BYTES)
    found = parse_wtmp(_bounded(tree, path, start, MAX_WTMP_BYTES + UTMP_RECORD_BYTES))
    if found:
        yield LastRun(text(found[0]), found[1], text(path))


def _text_log(tree: GuestTree, path: bytes) -> Iterator[LastRun]:
    stat = tree.stat(path)
    start = max(0, stat.size_bytes - MAX_LOG_BYTES)
    found = parse_log(_bounded(tree, path, start, MAX_LOG_BYTES), stat.modified_at_s)
    if found:
        yield LastRun(text(found[0]), found[1], text(path))


def _journal(tree: GuestTree, path: bytes) -> Iterator[LastRun]:
    for start in kernel_starts(_bounded(tree, path, 0, MAX_JOURNAL_BYTES)):
        if _RELEASE.fullmatch(start.release):
            yield LastRun(text(start.release), start.at_s, text(path))


def _newest_journals(tree: GuestTree, notes: list[str]) -> list[bytes]:
    """Return the system journals that changed last, newest first."""
    found: list[tuple[FileStat, bytes]] = []
    try:
        for path, entry in tree.walk(JOURNALS, WalkLimits(MAX_JOURNAL_FILES, depth=3)):
            if entry.name.startswith(b"system") and entry.name.endswith(b".journal"):
                found.append((tree.stat_entry(entry), path))
    except NotFoundError:
        pass
    except InputError as error:
        notes.append(f"{text(JOURNALS)} was not searched whole for the last kernel: {error}")
    found.sort(key=lambda journal: journal[0].modified_at_s, reverse=True)
    for stat, path in found[:MAX_JOURNALS_READ]:
        if stat.size_bytes > MAX_JOURNAL_BYTES:
            notes.append(f"{text(path)}: only its first {MAX_JOURNAL_BYTES} bytes were searched for kernels")
    return [path for _, path in found[:MAX_JOURNALS_READ]]


def _bounded(tree: GuestTree, path: bytes, start: int, limit: int) -> bytes:
    """Return at most `limit` bytes of a file from `start` on."""
    data = bytearray()
    for chunk in tree.chunks(path, start):
        data += chunk[: limit - len(data)]
        if len(data) >= limit:
            break
    return bytes(data)


def _stamp_s(before: str, modified_at_s: int) -> float:
    """Return the time at the start of a log line: ISO 8601, or "Dec  1 10:00:00" without a year."""
    word = before.partition(" ")[0]
    try:
        if word[:4].isdigit():
            moment = datetime.fromisoformat(word)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        year = datetime.fromtimestamp(modified_at_s, UTC).year
        for candidate in (year, year - 1):
            at_s = _in_year(before, candidate).timestamp()
            if at_s <= modified_at_s + _DAY_S:
                return at_s
    except (ValueError, OverflowError, OSError):
        return modified_at_s
    return modified_at_s


def _in_year(before: str, year: int) -> datetime:
    """Read "Dec  1 10:00:00" by hand: strptime asks the locale, and imports at its first use."""
    match = _STAMP.match(before)
    if not match:
        raise ValueError(before)
    month, day, hour, minute, second = match.groups()
    return datetime(year, _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second), tzinfo=UTC)
