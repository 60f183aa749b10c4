"""Packages by rpm's own database, in each of its three formats: SQLite, ndb and Berkeley DB hash.

Guarantees: every header in the database comes out as a package or as a problem, and a header that carries
its digest (all that rpm 4 installed do) is checked against it, so that a damaged page is told and never
another version. Any bytes give an answer within the limits. Public keys, which the database holds as
packages of their own, are left out.

One reader for what all formats hold (`header`), one for each way of keeping it (`stores`: `ndb`, `bdb`,
and `inventory.sqlite`).
"""

from undercroft.inventory.rpm.read import read_database

__all__ = ["read_database"]
