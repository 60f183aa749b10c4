"""A Windows machine by its registry: version and build, installed updates, installed programs.

Guarantees: reads the hives as Windows would load them after a crash, their logs applied in memory; a log that
cannot be applied is a problem. Programs that a user installed for himself alone (in his own hive) and
those of the store are not read.

`hive` and `hivelog` read the files, `system` says what stands in them.
"""

from undercroft.inventory.windows.system import SOFTWARE, read_database, read_hostname, read_release

__all__ = ["SOFTWARE", "read_database", "read_hostname", "read_release"]
