"""Tables of a SQLite database that lies in a guest, row by row.

Guarantees: reads what the guest's own SQLite would read after a crash: the frames of a write-ahead log
up to the last commit, their checksums checked, or a rollback journal's pages in place of half-written
ones. Any bytes give rows or `InputError` that begins with "sqlite"; memory is bounded by one row and a few
pages. Follows "Database File Format" and "WAL-mode File Format" of sqlite.org.

Not the sqlite3 module: it opens files, which a sandboxed reader cannot; `deserialize` takes no
write-ahead log and needs the whole database in memory, of which a reader has little; and it would run C
code over a hostile schema, with its views, triggers and generated columns. Only tables with row ids are
read here, and nothing of the schema is evaluated.

    >>> database = Database(tree, b"/var/lib/rpm/rpmdb.sqlite")
    >>> for row in database.rows("Packages", ("hnum", "blob")): ...
"""

from undercroft.inventory.sqlite.database import Database
from undercroft.inventory.sqlite.records import Value

__all__ = ["Database", "Value"]
