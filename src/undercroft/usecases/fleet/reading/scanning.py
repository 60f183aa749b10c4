"""Reading one subject and putting what was found on record.

A subject that cannot be read gets a scan all the same: without inventory, and with the reason. It is judged
as unknown, and never keeps what was found when it could still be read.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from undercroft.errors import InputError, NotFoundError, UndercroftError
from undercroft.model.credentials import Credentials
from undercroft.model.disk import Snapshot
from undercroft.model.fleet import FileIdentity, ReadSet, Scan
from undercroft.model.verdict import Subject
from undercroft.ports.records import Record, Records
from undercroft.usecases.fleet.reading.layers import CachedAnswer, How, LayeredMachine, LayerReader, Reading
from undercroft.usecases.target import MachineTarget


@dataclass(frozen=True, slots=True)
class Scanned:
    """One subject as it was just read.

    Attributes:
        subject: what was read.
        reading: what the reader gave, None where it could not be read.
        credentials: None where they were not asked for, or could not be read.
        problems: why it is not whole, apart from its inventory's own problems.
        at: when its bytes were read.
        unread: why the credentials that were asked for could not be read, "" where they were. No verdict on
            the software hangs on it.
    """

    subject: Subject
    reading: Reading | None
    credentials: Credentials | None
    problems: tuple[str, ...]
    at: datetime
    unread: str = ""

    @property
    def snapshots(self) -> tuple[Snapshot, ...]:
        """What the images' own tables list; untrusted."""
        tables = self.reading.snapshots if self.reading else ()
        return tuple(snapshot for _, table in tables for snapshot in table)

    @property
    def files(self) -> tuple[FileIdentity, ...]:
        """The files that it rests on, top images first."""
        return self.reading.files if self.reading else ()


class Scanner:
    """Reads subjects, with what is on record of them as the short way.

    Args:
        records: no transaction of the calling thread may be open.
        layers: the reader.
        clock: gives the time.
    """

    def __init__(self, records: Records, layers: LayerReader, clock: Callable[[], datetime]) -> None:
        self._records = records
        self._layers = layers
        self._clock = clock

    def scan(self, target: MachineTarget, subject: Subject, *, credentials: bool = False) -> Scanned:
        """Return what a subject holds now. Never raises for what is wrong with it."""
        (scanned,) = self.scan_states(target, (subject,), credentials=credentials)
        return scanned

    def scan_states(
        self, target: MachineTarget, subjects: tuple[Subject, ...], *, credentials: bool = False
    ) -> tuple[Scanned, ...]:
        """Return what several states of one machine hold, its images opened once.

        Args:
            target: the machine's images.
            subjects: states of it.
            credentials: read those too, which costs as much again unless they are on record of the very
                files, or proven by what was read lately.
        """
        try:
            with self._layers.open(target) as machine:
                return tuple(self._state(machine, subject, credentials=credentials) for subject in subjects)
        except UndercroftError as error:
            return tuple(self.failed(subject, error) for subject in subjects)

    def _state(self, machine: LayeredMachine, subject: Subject, *, credentials: bool) -> Scanned:
        at = self._clock()
        before = self._before(subject.key)
        try:
            reading = machine.read(subject.state, self._cached(before), self._candidates)
        except UndercroftError as error:
            return self.failed(subject, error)
        if not credentials:
            return Scanned(subject, reading, None, reading.problems, at)
        if reading.how is How.UNCHANGED and before is not None:
            known = self._known_credentials(before)
            if known is not None:
                return Scanned(subject, reading, known, reading.problems, at)
        found, unread = None, ""
        try:
            found = machine.credentials(subject.state)
        except UndercroftError as error:
            unread = f"accounts and keys could not be read: {error}"
            if isinstance(error, InputError):
                found = Credentials(problems=(unread,))  # of these bytes, until they change
        return Scanned(subject, reading, found, reading.problems, at, unread)

    def failed(self, subject: Subject, error: UndercroftError) -> Scanned:
        """Return that a subject cannot be read, and why."""
        return Scanned(subject, None, None, (str(error),), self._clock())

    def _before(self, subject: str) -> Scan | None:
        with self._records.reading() as record:
            return record.scan(subject)

    def _cached(self, scan: Scan | None) -> CachedAnswer | None:
        if scan is None or not scan.inventory:
            return None
        with self._records.reading() as record:
            return CachedAnswer(scan.inventory, scan.files, scan.inputs, record.reads(scan.inventory))

    def _known_credentials(self, scan: Scan) -> Credentials | None:
        """Return what is on record of the very files that a scan rests on, None where they were not read."""
        if not scan.credentials:
            return None
        with self._records.reading() as record, suppress(NotFoundError):
            return record.credentials(scan.credentials)
        return None

    def _candidates(self, base: FileIdentity, limit: int) -> tuple[tuple[str, ReadSet], ...]:
        with self._records.reading() as record:
            return record.candidates(base, limit)


def put_scanned(record: Record, scanned: Scanned) -> Scan:
    """Put what was found on record and return it as it stands there."""
    record.put_subject(scanned.subject)
    before = record.scan(scanned.subject.key)
    scan = _scan(record, scanned, before)
    record.put_scan(scan)
    return scan


def _scan(record: Record, scanned: Scanned, before: Scan | None) -> Scan:
    reading = scanned.reading
    key = scanned.subject.key
    if reading is None:
        return Scan(key, "", "", "", "", "", (), scanned.problems, scanned.at)
    if reading.inventory is not None:
        inventory, software = record.put_inventory(reading.inventory, reading.reads)
        problems = reading.inventory.coverage.problems
    else:
        inventory = reading.inventory_digest
        software = record.software_of(inventory)
        problems = record.inventory(inventory).coverage.problems
    # What is known beside the inventory holds for the very files only, not for any that give the same one.
    same_files = reading.how is How.UNCHANGED and before is not None and before.inventory == inventory
    unchanged = before if same_files else None
    credentials = unchanged.credentials if unchanged else ""
    if scanned.credentials is not None:
        credentials = record.put_credentials(scanned.credentials)
    mark = reading.fingerprint
    return Scan(
        subject=key,
        inventory=inventory,
        software=software,
        credentials=credentials,
        fingerprint=mark.digest if mark else unchanged.fingerprint if unchanged else "",
        lineage=mark.lineage if mark else unchanged.lineage if unchanged else "",
        files=reading.files,
        problems=(*problems, *scanned.problems),
        scanned_at=scanned.at,
        inputs=reading.inputs,
    )


def has_memory_snapshots(scanned: Scanned) -> bool:
    """Tell whether a state with RAM could be loaded from the images: a start may then be a revert."""
    return any(snapshot.vm_state_bytes for snapshot in scanned.snapshots)
