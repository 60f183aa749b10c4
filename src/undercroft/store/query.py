"""The queries that matching needs, in a read-only connection.

What can matter is decided inside SQLite: of thousands of statements about a kernel only those come back
whose vulnerability some feed leaves open in an installed version, or a changelog names above it, each with
all that any feed says of it.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime
from typing import Any

from undercroft.advisories.families import family_of, is_language, order_of
from undercroft.advisories.knowledge import Edition, Knowledge, grouped
from undercroft.advisories.orders.table import DEB
from undercroft.advisories.records import (
    Advisory,
    ChangelogEntry,
    ExploitProbability,
    IndexEntry,
    KnownExploited,
    Status,
    VexStatement,
    VexStatus,
    Vulnerability,
)
from undercroft.advisories.sources import epochs, packages_of, subjects, tracked
from undercroft.advisories.streams import repositories, repository_subject
from undercroft.model.finding import Severity
from undercroft.model.inventory import Inventory
from undercroft.store.rows import EDITION_COLUMNS, day, edition

_INSTALLED = """
CREATE TEMP TABLE IF NOT EXISTS installed (source TEXT PRIMARY KEY, version_key BLOB NOT NULL) WITHOUT ROWID;
DELETE FROM temp.installed;
CREATE TEMP TABLE IF NOT EXISTS named (
    source TEXT, vulnerability TEXT, PRIMARY KEY (source, vulnerability)
) WITHOUT ROWID;
DELETE FROM temp.named;
"""

# A statement whose fix is just what is installed leaves nothing open; it vouches for the version. Where no
# index lists versions, so does the highest fix below it, of each stream (`lineage.reached`).
# CROSS JOIN fixes the order of the loops: left alone, the planner starts with every source of the release.
_ADVISORIES = """
SELECT open.source, advisory.feed, advisory.vulnerability, advisory.advisory, advisory.status,
    advisory.fixed_version, advisory.introduced_version, advisory.stream, advisory.published_on,
    advisory.severity, advisory.severity_source, title.text
FROM (
    SELECT DISTINCT installed.source, advisory.subject, advisory.vulnerability
    FROM temp.installed AS installed
    CROSS JOIN subject ON subject.release = :release AND subject.source = installed.source
    CROSS JOIN advisory ON advisory.subject = subject.id
    WHERE advisory.status NOT IN ('not-affected', 'fixed')
        OR advisory.status = 'fixed'
            AND (advisory.fixed_version = '' OR advisory.fixed_key >= installed.version_key)
    UNION
    SELECT named.source, subject.id, named.vulnerability
    FROM temp.named AS named
    CROSS JOIN subject ON subject.release = :release AND subject.source = named.source
    UNION
    SELECT source, subject, vulnerability FROM (
        SELECT installed.source, advisory.subject, advisory.vulnerability, max(advisory.fixed_key)
        FROM temp.installed AS installed
        CROSS JOIN subject ON subject.release = :release AND subject.source = installed.source
        CROSS JOIN advisory ON advisory.subject = subject.id
        WHERE :vouching AND advisory.status = 'fixed' AND advisory.fixed_version NOT IN ('', '0')
            AND advisory.fixed_key < installed.version_key
            AND advisory.feed IN (SELECT value FROM json_each(:feeds))
        GROUP BY installed.source, advisory.subject, advisory.stream
    )
) AS open
CROSS JOIN advisory ON advisory.subject = open.subject AND advisory.vulnerability = open.vulnerability
CROSS JOIN title ON title.feed = advisory.feed AND title.number = advisory.title
WHERE advisory.feed IN (SELECT value FROM json_each(:feeds))
"""

# Whole: what older versions fixed counts too, when the newer ones are of another branch.
_CHANGELOGS = """
SELECT entry.source, entry.version, entry.dated_on, entry.vulnerabilities, entry.title, entry.branch
FROM temp.installed AS installed
CROSS JOIN changelog_entry AS entry ON entry.source = installed.source
WHERE entry.feed IN (SELECT value FROM json_each(:feeds))
ORDER BY entry.source, entry.branch, entry.feed, entry.number
"""

_INDEX = """
SELECT release, suite, package, architecture, version, source, source_version FROM index_entry
WHERE release = :release AND package IN (SELECT value FROM json_each(:names))
    AND feed IN (SELECT value FROM json_each(:feeds))
"""

_ARCHIVE = """
SELECT archive.source, archive.suite, archive.source_version
FROM temp.installed AS installed
CROSS JOIN archive ON archive.release = :release AND archive.source = installed.source
WHERE archive.feed IN (SELECT value FROM json_each(:feeds))
"""

_CVES = """
SELECT feed.name, vulnerability, severity, severity_source, vulnerability.published_on, title, rejected
FROM vulnerability JOIN feed ON feed.id = vulnerability.feed
WHERE vulnerability IN (SELECT value FROM json_each(:names))
    AND feed IN (SELECT value FROM json_each(:feeds))
ORDER BY vulnerability, feed
"""

_KNOWN_EXPLOITED = """
SELECT vulnerability, added_on FROM known_exploited
WHERE vulnerability IN (SELECT value FROM json_each(:names))
    AND feed IN (SELECT value FROM json_each(:feeds))
"""

_EXPLOIT_PROBABILITIES = """
SELECT vulnerability, probability, scored_on FROM exploit_probability
WHERE vulnerability IN (SELECT value FROM json_each(:names))
    AND feed IN (SELECT value FROM json_each(:feeds))
"""

_VEX = """
SELECT document, vulnerability, products, status, justification, timestamp FROM vex_statement
WHERE feed IN (SELECT value FROM json_each(:feeds))
ORDER BY feed, number
"""

_HAS_INDEX = """
SELECT EXISTS (
    SELECT 1 FROM index_entry WHERE release = :release AND feed IN (SELECT value FROM json_each(:feeds))
)
"""


_STATUSES = {status.value: status for status in Status}
_SEVERITIES = {severity.value: severity for severity in Severity}


def editions(connection: sqlite3.Connection) -> dict[int, Edition]:
    """Return all editions by row id, sorted by name."""
    rows = connection.execute(f"SELECT id, {EDITION_COLUMNS} FROM feed ORDER BY name")  # noqa: S608 - constant
    return {row[0]: edition(row[1:]) for row in rows}


def edition_named(connection: sqlite3.Connection, name: str) -> Edition | None:
    """Return the edition of the feed `name`, None where there is none."""
    row = connection.execute(f"SELECT {EDITION_COLUMNS} FROM feed WHERE name = ?", (name,)).fetchone()  # noqa: S608 - constant
    return None if row is None else edition(row)


def knowledge(connection: sqlite3.Connection, release: str, inventory: Inventory) -> Knowledge:
    """Return every record that can change the answer for `inventory`. Errors of SQLite pass through."""
    every = editions(connection)
    managers = {package.manager for package in inventory.packages}
    spoken_for = {name for found in every.values() for name in found.header.releases}
    languages = sorted(name for name in managers & spoken_for if is_language(name))
    found = _knowledge(connection, every, release, inventory)
    if not languages:
        return found
    return replace(found, beside=tuple(_knowledge(connection, every, name, inventory) for name in languages))


def _knowledge(
    connection: sqlite3.Connection, every: Mapping[int, Edition], release: str, inventory: Inventory
) -> Knowledge:
    """Return what the editions `every` know of one release, or of one language's ecosystem."""
    asked = {
        ident: found
        for ident, found in every.items()
        if not found.header.releases or release in found.header.releases
    }
    parameters = _parameters(release, asked, inventory)
    connection.executescript(_INSTALLED)
    key = order_of(release).key
    oldest, related = _oldest(release, inventory)
    connection.executemany("INSERT INTO temp.installed VALUES (?, ?)", oldest.items())
    changelogs = [
        (row[0], ChangelogEntry(row[0], row[1], date.fromisoformat(row[2]), tuple(row[3].split()), *row[4:]))
        for row in connection.execute(_CHANGELOGS, parameters)
    ]
    named = {
        (tracked(release, entry.source, entry.version, entry.version).source, vulnerability)
        for source, entry in changelogs
        if key(entry.version) > oldest[source]
        for vulnerability in entry.vulnerabilities
    }
    connection.executemany("INSERT INTO temp.named VALUES (?, ?)", named)
    rows = connection.execute(_ADVISORIES, parameters).fetchall()
    # What a feed leaves open in a source package it may have closed in a binary one, and the other way round.
    if beside := {(name, row[2]) for row in rows for name in related.get(row[0], ())}:
        connection.executemany("INSERT OR IGNORE INTO temp.named VALUES (?, ?)", beside)
        rows = connection.execute(_ADVISORIES, parameters).fetchall()
    feed_names = {ident: found.header.name for ident, found in asked.items()}
    advisories = [(row[0], _advisory(release, feed_names[row[1]], row)) for row in rows]
    names = {record.vulnerability for _, record in advisories}
    names.update(name for _, record in changelogs for name in record.vulnerabilities)
    about = parameters | {"names": json.dumps(sorted(names))}
    return Knowledge(
        release=release,
        editions=tuple(asked.values()),
        advisories=grouped(advisories),
        index=grouped((row[2], IndexEntry(*row)) for row in connection.execute(_INDEX, parameters)),
        archive=grouped(
            (source, (suite, version)) for source, suite, version in connection.execute(_ARCHIVE, parameters)
        ),
        has_index=bool(connection.execute(_HAS_INDEX, parameters).fetchone()[0]),
        changelogs=grouped(changelogs),
        vulnerabilities=grouped(
            (record.vulnerability, record) for record in map(_vulnerability, connection.execute(_CVES, about))
        ),
        known_exploited={
            name: KnownExploited(name, date.fromisoformat(added_on))
            for name, added_on in connection.execute(_KNOWN_EXPLOITED, about)
        },
        exploit_probabilities={
            name: ExploitProbability(name, probability, date.fromisoformat(scored_on))
            for name, probability, scored_on in connection.execute(_EXPLOIT_PROBABILITIES, about)
        },
        vex=tuple(map(_vex_statement, connection.execute(_VEX, parameters))),
    )


def _parameters(release: str, asked: Iterable[int], inventory: Inventory) -> dict[str, object]:
    # A name with undecodable bytes is in no index, and SQLite would refuse it.
    names = {package.name for package in inventory.packages if _is_text(package.name)}
    return {
        "release": release,
        "vouching": order_of(release) is not DEB,
        "feeds": json.dumps(list(asked)),
        "names": json.dumps(sorted(names)),
    }


def _oldest(release: str, inventory: Inventory) -> tuple[dict[str, bytes], dict[str, set[str]]]:
    """Return the key of the oldest installed version by subject, and the others of the same packages.

    A signing source stands under its own name too, since its changelog does.
    """
    oldest: dict[str, bytes] = {}
    related: dict[str, set[str]] = {}
    family = family_of(release)
    if family is None:
        return oldest, related
    key = family.order.key
    known_epochs = epochs(inventory.packages) if family.by_binary else {}
    for name in filter(_is_text, repositories(inventory)):
        oldest[repository_subject(name)] = b""
    for package in packages_of(family, inventory):
        named = subjects(family, release, package, known_epochs)
        pairs = [(subject.source, key(subject.version)) for subject in named]
        if not family.by_binary:
            pairs.append((package.source, key(package.source_version)))
        names = {subject.source for subject in named if _is_text(subject.source)}
        for source, version in pairs:
            if not source.isascii() and not _is_text(source):
                continue
            known = oldest.get(source)
            if known is None or version < known:
                oldest[source] = version
            if len(names) > 1:
                related.setdefault(source, set()).update(names - {source})
    return oldest, related


def _advisory(release: str, feed: str, row: tuple[Any, ...]) -> Advisory:
    source, _, vulnerability, name, status, fixed, introduced, stream, published_on, severity, by, title = row
    return Advisory(
        feed,
        release,
        source,
        vulnerability,
        name,
        _STATUSES[status],
        fixed,
        introduced,
        stream,
        day(published_on),
        _SEVERITIES[severity],
        by,
        title,
    )


def _vulnerability(row: tuple[Any, ...]) -> Vulnerability:
    feed, name, severity, severity_source, published_on, title, rejected = row
    return Vulnerability(
        feed, name, Severity(severity), severity_source, day(published_on), title, bool(rejected)
    )


def _vex_statement(row: tuple[str, ...]) -> VexStatement:
    document, vulnerability, products, status, justification, timestamp = row
    return VexStatement(
        document,
        vulnerability,
        tuple(json.loads(products)),
        VexStatus(status),
        justification,
        datetime.fromisoformat(timestamp),
    )


def _is_text(untrusted_name: str) -> bool:
    """Return whether a name can be in the database at all: undecodable bytes (surrogates) cannot."""
    try:
        untrusted_name.encode()
    except UnicodeEncodeError:
        return False
    return True
