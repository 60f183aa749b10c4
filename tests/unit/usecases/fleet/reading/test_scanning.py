"""Credentials beside a scan: known ones stand for the very files, unread ones bear on no verdict."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from comebackdata import PATCHED
from memoryrecords import MemoryRecords

from undercroft.errors import InputError, OperationError, UndercroftError
from undercroft.model.credentials import Account, Credentials
from undercroft.model.fleet import Scan
from undercroft.model.report import CURRENT
from undercroft.model.verdict import Subject, SubjectKind
from undercroft.usecases.fleet.reading.layers import How, Reading
from undercroft.usecases.fleet.reading.scanning import Scanner, put_scanned

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SUBJECT = Subject("machine:1", SubjectKind.MACHINE, "web01", "host1", "1", CURRENT)
ALICE = Credentials((Account("alice", 1000, "/bin/sh", "set", 1),))


class Layers:
    """A reader of one machine: new, or unchanged since it was read last; `asked` counts its credentials."""

    def __init__(self) -> None:
        self.failure: UndercroftError | None = None
        self.inventory = ""
        self.asked = 0

    @contextmanager
    def open(self, _: Any) -> Iterator["Layers"]:
        yield self

    def read(self, *_: object) -> Reading:
        if self.inventory:
            return Reading(How.UNCHANGED, None, self.inventory, None, None, (), "")
        return Reading(How.READ, PATCHED, "", None, None, (), "")

    def credentials(self, _: str) -> Credentials:
        self.asked += 1
        if self.failure:
            raise self.failure
        return ALICE


class Stage:
    """A scanner over a record in memory."""

    def __init__(self) -> None:
        self.records = MemoryRecords()
        self.layers = Layers()
        self.scanner = Scanner(self.records, self.layers, lambda: NOW)  # type: ignore[arg-type]

    def scan(self, *, credentials: bool = True) -> Scan:
        """Scan, put what was found on record, and return that."""
        target: Any = None
        scanned = self.scanner.scan(target, SUBJECT, credentials=credentials)
        with self.records.transaction() as record:
            scan = put_scanned(record, scanned)
        self.layers.inventory = scan.inventory
        return scan

    def known(self, scan: Scan) -> Credentials | None:
        with self.records.reading() as record:
            return record.credentials(scan.credentials) if scan.credentials else None


def test_what_is_on_record_of_the_very_files_is_not_read_again() -> None:
    stage = Stage()
    assert stage.scan(credentials=False).credentials == ""
    assert stage.known(stage.scan()) == ALICE
    assert stage.known(stage.scan()) == ALICE
    assert stage.known(stage.scan(credentials=False)) == ALICE
    assert stage.layers.asked == 1


def test_of_files_that_have_changed_they_are_read_anew() -> None:
    stage = Stage()
    stage.scan()
    stage.layers.inventory = ""
    assert stage.known(stage.scan()) == ALICE
    assert stage.layers.asked == 2
    stage.layers.inventory = ""
    assert stage.scan(credentials=False).credentials == "", "nobody knows what they are now"


def test_bytes_of_which_the_reader_dies_are_unread_until_they_change_and_no_matter_for_the_verdict() -> None:
    stage = Stage()
    stage.layers.failure = InputError("the reader died")
    scan = stage.scan()
    found = stage.known(scan)
    assert found is not None
    assert found.problems == ("accounts and keys could not be read: the reader died",)
    assert scan.problems == PATCHED.coverage.problems
    stage.scan()
    assert stage.layers.asked == 1


def test_where_the_sandbox_failed_they_are_tried_again() -> None:
    stage = Stage()
    stage.layers.failure = OperationError("no memory")
    assert stage.scan().credentials == ""
    stage.layers.failure = None
    assert stage.known(stage.scan()) == ALICE


@pytest.mark.parametrize("failure", [InputError("it died"), OperationError("no memory")])
def test_whoever_asked_for_them_is_told_why_they_could_not_be_read(failure: UndercroftError) -> None:
    stage = Stage()
    stage.layers.failure = failure
    target: Any = None
    assert str(failure) in stage.scanner.scan(target, SUBJECT, credentials=True).unread
