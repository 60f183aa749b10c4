"""Tables are read as SQLite itself reads them; what no database can be is refused in bounded time."""

import sqlite3
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memorymachines import tree_of

from undercroft.errors import InputError, NotFoundError
from undercroft.inventory import sqlite

VALUES = st.one_of(
    st.none(),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=40).filter(lambda text: "\0" not in text),
    st.binary(max_size=9000),
)


def opened(content: bytes) -> sqlite.Database:
    return sqlite.Database(tree_of({"db": content}), b"/db")


def made(*statements: str, page_bytes: int = 4096) -> bytes:
    """Return a database that SQLite made of these statements."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_bytes}")
    for statement in statements:
        connection.execute(statement)
    content = connection.serialize()
    connection.close()
    return content


@settings(max_examples=40)
@given(
    rows=st.lists(st.tuples(VALUES, VALUES), max_size=30),
    gaps=st.sets(st.integers(0, 29)),
    page_bytes=st.sampled_from([512, 1024, 4096, 65536]),
    vacuum=st.sampled_from([0, 1]),
)
def test_random_tables_are_read_as_sqlite_reads_them(
    rows: list[tuple[object, object]], gaps: set[int], page_bytes: int, vacuum: int
) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_bytes}")
    connection.execute(f"PRAGMA auto_vacuum = {vacuum}")
    connection.execute("CREATE TABLE other (x)")
    connection.execute('CREATE TABLE "t" (id INTEGER PRIMARY KEY, one, [two] BLOB DEFAULT (1 + 2))')
    connection.executemany("INSERT INTO t (one, two) VALUES (?, ?)", rows)
    connection.executemany("DELETE FROM t WHERE id = ?", [(gap,) for gap in gaps])
    told = connection.execute("SELECT id, one, two FROM t ORDER BY id").fetchall()
    content = connection.serialize()
    connection.close()
    assert [tuple(row) for row in opened(content).rows("T", ("id", "one", "two"))] == told


def test_many_rows_on_several_levels_come_in_order() -> None:
    script = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 20000)"
    content = made(
        "CREATE TABLE t (name TEXT, n INT)",
        f"{script} INSERT INTO t SELECT 'row' || x, x FROM n",
        page_bytes=512,
    )
    assert list(opened(content).rows("t", ("n", "name"))) == [[n, f"row{n}"] for n in range(1, 20_001)]


def test_columns_that_came_later_are_missing_in_older_rows_and_constraints_are_none() -> None:
    content = made(
        "CREATE TABLE t (a TEXT, b TEXT CHECK (length(b) IN (1, 2)), PRIMARY KEY (a, b))",
        "INSERT INTO t VALUES ('x', 'y')",
        "ALTER TABLE t ADD COLUMN c INTEGER",
        "INSERT INTO t VALUES ('p', 'q', 7)",
    )
    assert list(opened(content).rows("t", ("c", "a"))) == [[None, "x"], [7, "p"]]
    with pytest.raises(InputError, match="has no column primary"):
        list(opened(content).rows("t", ("primary",)))
    with pytest.raises(NotFoundError, match="the table nothing is missing"):
        list(opened(content).rows("nothing", ("a",)))


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (
            ("CREATE TABLE t (a PRIMARY KEY) WITHOUT ROWID", "INSERT INTO t VALUES (1)"),
            "no page of a table with rows",
        ),
        (("PRAGMA encoding = 'UTF-16le'", "CREATE TABLE t (a)"), "texts in encoding 2 are not read"),
    ],
)
def test_what_is_not_read_is_said(statements: tuple[str, ...], told: str) -> None:
    content = made(*statements)
    with pytest.raises(InputError, match=told):
        list(opened(content).rows("t", ("a",)))


@pytest.mark.parametrize(
    "content", [b"", b"SQLite format 3\0", b"x" * 4096, b"SQLite format 3\0" + bytes(4080)]
)
def test_what_is_no_database_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match="sqlite: "):
        opened(content)


def big_rows(count: int) -> bytes:
    rows = [f"INSERT INTO t VALUES (x'{number:02x}' || zeroblob(30000))" for number in range(count)]
    return made("CREATE TABLE t (a BLOB)", *rows, page_bytes=1024)


def test_rows_that_share_their_overflow_pages_are_refused_before_they_are_all_read() -> None:
    """Five rows of one chain of 600 pages: five times as many bytes as the file has."""
    blob = 39 + 508 * 600 - 4  # so that the least of each row stands in the leaf
    rows = [f"INSERT INTO t VALUES (zeroblob({blob}))"] * 5
    content = bytearray(made("CREATE TABLE t (a BLOB)", *rows, page_bytes=512))
    leaf = 512
    pointers = struct.unpack_from(">5H", content, leaf + 8)
    places = [leaf + pointer + 3 + 1 + 39 for pointer in pointers]
    first = content[places[0] : places[0] + 4]
    page, chain = int.from_bytes(first, "big"), []
    while page:
        chain.append(page)
        page = int.from_bytes(content[(page - 1) * 512 : (page - 1) * 512 + 4], "big")
    assert len(chain) == 600
    for place in places:
        content[place : place + 4] = first
    shared = bytes(content[: max(chain) * 512])
    found = opened(shared).rows("t", ("a",))
    assert next(found) == [bytes(blob)]
    with pytest.raises(InputError, match="hold more than all pages do"):
        next(found)


def test_a_tree_that_leads_back_to_itself_is_refused() -> None:
    content = bytearray(big_rows(200))
    database = opened(bytes(content))
    root = database._tables["t"][0]
    start = (root - 1) * 1024
    assert content[start] == 0x05
    pointer = int.from_bytes(content[start + 12 : start + 14], "big")
    content[start + pointer : start + pointer + 4] = root.to_bytes(4, "big")
    with pytest.raises(InputError, match="is no tree"):
        list(opened(bytes(content)).rows("t", ("a",)))
