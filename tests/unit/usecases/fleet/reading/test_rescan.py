"""What is read of a machine: bounded, whatever its images' tables say."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from undercroft.errors import UndercroftError
from undercroft.model.disk import Snapshot
from undercroft.model.domain import ChainEntry, DiskKind, Domain, DomainDisk, Power, Survey
from undercroft.model.verdict import Subject
from undercroft.usecases.fleet.reading.hostfiles import HostFiles
from undercroft.usecases.fleet.reading.layers import How, Reading
from undercroft.usecases.fleet.reading.rescan import MAX_OWN_SNAPSHOTS, scan_stopped
from undercroft.usecases.fleet.reading.scanning import Scanned
from undercroft.usecases.target import MachineTarget

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DISK = DomainDisk("vda", "disk", DiskKind.FILE, "/images/web01.qcow2", "qcow2", (ChainEntry("/b", "raw"),))
DOMAIN = Domain("uuid", "web01", Power.OFF, disks=(DISK,))


@dataclass
class CountingScanner:
    """Reads nothing, and counts what it was asked for."""

    table: tuple[Snapshot, ...]
    read: list[str] = field(default_factory=list)

    def scan_states(
        self, target: MachineTarget, subjects: tuple[Subject, ...], *, credentials: bool = False
    ) -> tuple[Scanned, ...]:
        self.read += [subject.state for subject in subjects]
        reading = Reading(How.UNCHANGED, None, "", None, None, (), "", (("vda", self.table),))
        return tuple(Scanned(subject, reading, None, (), NOW) for subject in subjects)

    def failed(self, subject: Subject, error: UndercroftError) -> Scanned:
        return Scanned(subject, None, None, (str(error),), NOW)


def scanned(count: int) -> tuple[CountingScanner, tuple[Scanned, ...]]:
    scanner = CountingScanner(tuple(Snapshot(str(n), f"s{n}", n, 0, 0) for n in range(count)))
    files = HostFiles(Survey("host1", "memory:", NOW, (DOMAIN,)))
    return scanner, scan_stopped(scanner, files, "host1", DOMAIN).scanned  # type: ignore[arg-type]


def test_a_table_of_ten_thousand_snapshots_costs_no_more_than_the_limit_and_is_told() -> None:
    scanner, found = scanned(10_000)
    assert len(scanner.read) == 1 + MAX_OWN_SNAPSHOTS
    (unread,) = (one for one in found if one.problems)
    assert unread.subject.state == f"s{MAX_OWN_SNAPSHOTS}"
    assert "hold 10000 snapshots that libvirt does not know" in unread.problems[0]


def test_as_many_as_the_limit_are_all_read() -> None:
    scanner, found = scanned(MAX_OWN_SNAPSHOTS)
    assert len(scanner.read) == 1 + MAX_OWN_SNAPSHOTS
    assert not any(one.problems for one in found)
