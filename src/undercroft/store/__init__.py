"""The local database of advisories, in SQLite through the standard library.

Guarantees: an edition of a feed replaces the one before it as a whole or not at all, whatever interrupts
the import; readers never wait for an import and need nothing but read permission on one file; an edition
whose serial goes back is refused. `database` opens, reads and replaces, `draft` is the copy that an import
works on, `files` what happens to the file, `schema` the tables, `query` what matching asks for, `rows` the
way from records to rows and back.
"""
