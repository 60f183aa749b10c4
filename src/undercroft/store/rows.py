"""Records to rows and back.

A `RowWriter` takes the records of one edition and writes them in batches; texts that repeat in an edition
(titles: a tracker gives the same one for each release) are stored once.
"""

import json
import sqlite3
from collections.abc import Iterable
from datetime import date, datetime

from undercroft.advisories.families import order_of
from undercroft.advisories.knowledge import Edition
from undercroft.advisories.records import (
    Advisory,
    ChangelogEntry,
    ExploitProbability,
    FeedHeader,
    IndexEntry,
    KnownExploited,
    Record,
    VexStatement,
    Vulnerability,
)

BATCH_ROWS = 5000

Row = tuple[str | int | float | bytes | None, ...]

_COLUMNS = {
    "title": 3,
    "advisory": 14,
    "index_entry": 8,
    "archive": 5,
    "changelog_entry": 8,
    "vulnerability": 7,
    "known_exploited": 3,
    "exploit_probability": 4,
    "vex_statement": 8,
}


class RowWriter:
    """Writes one edition's records. Errors of SQLite pass through.

    Args:
        connection: in a transaction.
        feed: row id of the edition's feed.
    """

    def __init__(self, connection: sqlite3.Connection, feed: int) -> None:
        self.records = 0
        self._connection = connection
        self._feed = feed
        self._subjects: dict[tuple[str, str], int] = {}
        self._titles: dict[str, int] = {}
        self._batches: dict[str, list[Row]] = {table: [] for table in _COLUMNS}

    def write(self, records: Iterable[Record]) -> None:
        """Write all of `records`. Errors of the iterator pass through."""
        for record in records:
            self._take(record)
            self.records += 1
            if self.records % BATCH_ROWS == 0:
                self._flush()
        self._flush()

    def _take(self, record: Record) -> None:
        feed, number, batches = self._feed, self.records, self._batches
        match record:
            case Advisory():
                batches["advisory"].append(self._advisory(record))
            case IndexEntry(release, suite, package, architecture, version, source, source_version):
                batches["index_entry"].append(
                    (release, package, architecture, suite, version, feed, source, source_version)
                )
                batches["archive"].append((release, source, suite, source_version, feed))
            case ChangelogEntry(source, version, dated_on, vulnerabilities, title, branch):
                names, day = " ".join(vulnerabilities), dated_on.isoformat()
                batches["changelog_entry"].append((source, branch, feed, number, version, day, names, title))
            case ExploitProbability(vulnerability, probability, scored_on):
                batches["exploit_probability"].append(
                    (vulnerability, feed, probability, scored_on.isoformat())
                )
            case KnownExploited(vulnerability, added_on):
                batches["known_exploited"].append((vulnerability, feed, added_on.isoformat()))
            case Vulnerability():
                batches["vulnerability"].append(_vulnerability_row(record, feed))
            case VexStatement():
                batches["vex_statement"].append(_vex_row(record, feed, number))

    def _advisory(self, record: Advisory) -> Row:
        return (
            self._subject(record.release, record.source),
            record.vulnerability,
            self._feed,
            self.records,
            record.advisory,
            record.status.value,
            record.fixed_version,
            order_of(record.release).key(record.fixed_version),
            record.introduced_version,
            record.stream,
            _text(record.published_on),
            record.severity.value,
            record.severity_source,
            self._title(record.title),
        )

    def _subject(self, release: str, source: str) -> int:
        subject = (release, source)
        ident = self._subjects.get(subject)
        if ident is None:
            select = "SELECT id FROM subject WHERE release = ? AND source = ?"
            insert = "INSERT INTO subject (release, source) VALUES (?, ?)"
            row = self._connection.execute(select, subject).fetchone()
            ident = row[0] if row else self._connection.execute(insert, subject).lastrowid or 0
            self._subjects[subject] = ident
        return ident

    def _title(self, title: str) -> int:
        number = self._titles.get(title)
        if number is None:
            number = self._titles[title] = len(self._titles)
            self._batches["title"].append((self._feed, number, title))
        return number

    def _flush(self) -> None:
        for table, rows in self._batches.items():
            if rows:
                marks = ", ".join("?" * _COLUMNS[table])
                self._connection.executemany(f"INSERT OR IGNORE INTO {table} VALUES ({marks})", rows)  # noqa: S608 - names from `_COLUMNS`
                rows.clear()


def _vulnerability_row(record: Vulnerability, feed: int) -> Row:
    return (
        record.vulnerability,
        feed,
        record.severity.value,
        record.severity_source,
        _text(record.published_on),
        record.title,
        int(record.rejected),
    )


def _vex_row(record: VexStatement, feed: int, number: int) -> Row:
    return (
        feed,
        number,
        record.document,
        record.vulnerability,
        json.dumps(record.products),
        record.status.value,
        record.justification,
        record.timestamp.isoformat(),
    )


def edition_row(header: FeedHeader, fetched_at: datetime, records: int) -> Row:
    """Return the row of `feed`, without its id."""
    return (
        header.name,
        header.serial,
        _text(header.published_at),
        _text(header.valid_until),
        header.max_age_s,
        json.dumps(header.releases),
        json.dumps(header.complete_for),
        header.signed_by,
        fetched_at.isoformat(),
        records,
        json.dumps(header.listed_for),
    )


EDITION_COLUMNS = (
    "name, serial, published_at, valid_until, max_age_s, releases, complete_for, signed_by, fetched_at, "
    "records, listed_for"
)


def edition(row: tuple[str, str, str | None, str | None, int, str, str, str, str, int, str]) -> Edition:
    """Return the edition in a row of `EDITION_COLUMNS`."""
    name, serial, published_at, valid_until, max_age_s, releases, complete_for, signed_by = row[:8]
    fetched, count, listed_for = row[8:]
    header = FeedHeader(
        name=name,
        serial=serial,
        published_at=datetime.fromisoformat(published_at) if published_at else None,
        valid_until=datetime.fromisoformat(valid_until) if valid_until else None,
        max_age_s=max_age_s,
        releases=tuple(json.loads(releases)),
        complete_for=tuple(json.loads(complete_for)),
        signed_by=signed_by,
        listed_for=tuple(json.loads(listed_for)),
    )
    return Edition(header, datetime.fromisoformat(fetched), count)


def day(text: str | None) -> date | None:
    """Return the day in a nullable column."""
    return date.fromisoformat(text) if text else None


def _text(moment: date | None) -> str | None:
    return moment.isoformat() if moment else None
