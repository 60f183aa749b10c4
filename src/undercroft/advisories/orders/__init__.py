"""Version orders, one module per package manager, each exactly as the manager's own program has it.

Guarantees: an order's `key` turns any text into bytes whose plain order is that order, so that Python and
SQLite (memcmp of BLOBs) compare alike; it never fails, and the order is total and transitive whatever the
text. Whether a text is a version at all is for the order's `check` to say, which raises `InputError`.

`table.ORDERS` names them all.
"""
