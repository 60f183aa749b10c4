"""The tables of the advisory database, and how an older file becomes one of today.

`PRAGMA user_version` is the number of `MIGRATIONS` that a file has been through. A migration is added at
the end and never changed afterwards.

Tables are clustered (WITHOUT ROWID) by what matching asks for, so that one source package's rows lie on
neighbouring pages. Version keys are BLOBs whose memcmp order is that of the release's package manager
(`advisories.orders`): SQLite compares versions by itself.
"""

import sqlite3

from undercroft.errors import StateError

APPLICATION_ID = 0x5563_4644  # "UcFD"

_VERSION_1 = """
CREATE TABLE feed (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    serial TEXT NOT NULL,
    published_at TEXT,
    valid_until TEXT,
    max_age_s INTEGER NOT NULL,
    releases TEXT NOT NULL,
    complete_for TEXT NOT NULL,
    signed_by TEXT NOT NULL,
    fetched_at TEXT NOT NULL,
    records INTEGER NOT NULL
);
CREATE TABLE subject (
    id INTEGER PRIMARY KEY,
    release TEXT NOT NULL,
    source TEXT NOT NULL,
    UNIQUE (release, source)
);
CREATE TABLE title (
    feed INTEGER NOT NULL,
    number INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (feed, number)
) WITHOUT ROWID;
CREATE TABLE advisory (
    subject INTEGER NOT NULL,
    vulnerability TEXT NOT NULL,
    feed INTEGER NOT NULL,
    number INTEGER NOT NULL,
    advisory TEXT NOT NULL,
    status TEXT NOT NULL,
    fixed_version TEXT NOT NULL,
    fixed_key BLOB NOT NULL,
    introduced_version TEXT NOT NULL,
    stream TEXT NOT NULL,
    published_on TEXT,
    severity TEXT NOT NULL,
    severity_source TEXT NOT NULL,
    title INTEGER NOT NULL,
    PRIMARY KEY (subject, vulnerability, feed, number)
) WITHOUT ROWID;
CREATE TABLE index_entry (
    release TEXT NOT NULL,
    package TEXT NOT NULL,
    architecture TEXT NOT NULL,
    suite TEXT NOT NULL,
    version TEXT NOT NULL,
    feed INTEGER NOT NULL,
    source TEXT NOT NULL,
    source_version TEXT NOT NULL,
    PRIMARY KEY (release, package, architecture, suite, version, feed)
) WITHOUT ROWID;
CREATE TABLE archive (
    release TEXT NOT NULL,
    source TEXT NOT NULL,
    suite TEXT NOT NULL,
    source_version TEXT NOT NULL,
    feed INTEGER NOT NULL,
    PRIMARY KEY (release, source, suite, source_version, feed)
) WITHOUT ROWID;
CREATE TABLE changelog_entry (
    source TEXT NOT NULL,
    version_key BLOB NOT NULL,
    feed INTEGER NOT NULL,
    number INTEGER NOT NULL,
    version TEXT NOT NULL,
    dated_on TEXT NOT NULL,
    vulnerabilities TEXT NOT NULL,
    title TEXT NOT NULL,
    PRIMARY KEY (source, version_key, feed, number)
) WITHOUT ROWID;
CREATE TABLE vulnerability (
    vulnerability TEXT NOT NULL,
    feed INTEGER NOT NULL,
    severity TEXT NOT NULL,
    severity_source TEXT NOT NULL,
    published_on TEXT,
    title TEXT NOT NULL,
    rejected INTEGER NOT NULL,
    PRIMARY KEY (vulnerability, feed)
) WITHOUT ROWID;
CREATE TABLE known_exploited (
    vulnerability TEXT NOT NULL,
    feed INTEGER NOT NULL,
    added_on TEXT NOT NULL,
    PRIMARY KEY (vulnerability, feed)
) WITHOUT ROWID;
CREATE TABLE exploit_probability (
    vulnerability TEXT NOT NULL,
    feed INTEGER NOT NULL,
    probability REAL NOT NULL,
    scored_on TEXT NOT NULL,
    PRIMARY KEY (vulnerability, feed)
) WITHOUT ROWID;
CREATE TABLE vex_statement (
    feed INTEGER NOT NULL,
    number INTEGER NOT NULL,
    document TEXT NOT NULL,
    vulnerability TEXT NOT NULL,
    products TEXT NOT NULL,
    status TEXT NOT NULL,
    justification TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    PRIMARY KEY (feed, number)
) WITHOUT ROWID;
"""

# Entries of version 1 do not tell whose changelog they stood in: they have to be fetched again.
_VERSION_2 = """
DROP TABLE changelog_entry;
DELETE FROM feed WHERE name LIKE 'changelogs:%';
CREATE TABLE changelog_entry (
    source TEXT NOT NULL,
    branch TEXT NOT NULL,
    feed INTEGER NOT NULL,
    number INTEGER NOT NULL,
    version TEXT NOT NULL,
    dated_on TEXT NOT NULL,
    vulnerabilities TEXT NOT NULL,
    title TEXT NOT NULL,
    PRIMARY KEY (source, branch, feed, number)
) WITHOUT ROWID;
"""

# Feeds that list what a release's publisher has fixed, and Red Hat's documents (one a vulnerability).
_VERSION_3 = """
ALTER TABLE feed ADD COLUMN listed_for TEXT NOT NULL DEFAULT '[]';
"""

MIGRATIONS = (_VERSION_1, _VERSION_2, _VERSION_3)
VERSION = len(MIGRATIONS)

FEED_TABLES = (
    "title",
    "advisory",
    "index_entry",
    "archive",
    "changelog_entry",
    "vulnerability",
    "known_exploited",
    "exploit_probability",
    "vex_statement",
)
"""Tables whose rows belong to one feed, by their column `feed`."""


def version_of(connection: sqlite3.Connection, path: str) -> int:
    """Return how many migrations the file has been through; 0 for an empty one.

    Raises:
        StateError: the file belongs to another program, or to a newer version of this one.
        sqlite3.Error: it is not a SQLite file, or damaged.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application != APPLICATION_ID:
        raise StateError(f"{path} is a SQLite file, but not an advisory database; name another path")
    if version > VERSION:
        raise StateError(
            f"{path} was written by a newer Undercroft (schema {version}, this one knows {VERSION}): update "
            "Undercroft, or delete the file and run undercroft feeds update"
        )
    return int(version)


def migrate(connection: sqlite3.Connection, version: int) -> None:
    """Bring a file that has been through `version` migrations to today's schema."""
    for script in MIGRATIONS[version:]:
        connection.executescript(script)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")
