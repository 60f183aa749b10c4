"""Software beside the system's package manager: packages of languages for all users, snaps, flatpaks.

Where the system's own packages come from is listed with them: dnf's enabled repositories.

Guarantees: what a package of the system's own manager brought is not listed a second time. Only well-known
folders are looked into, within `MAX_FOLDERS` and `MAX_CANDIDATES`; passing a limit, and what cannot be
read, is a note: like unowned executables this software lies outside of what the system keeps record of.

One module for each ecosystem; `ecosystems` lists them.
"""

from undercroft.inventory.languages.ecosystems import ECOSYSTEMS, Ecosystem, Languages, read_languages

__all__ = ["ECOSYSTEMS", "Ecosystem", "Languages", "read_languages"]
