"""Where the advisories lie on this host, and what is kept of scans."""

import os
from collections.abc import Mapping

SYSTEM_DATABASE = "/var/lib/undercroft/advisories.db"
DATABASE_VARIABLE = "UNDERCROFT_DATABASE"
SYSTEM_CACHE = "/var/cache/undercroft/images.db"
CACHE_VARIABLE = "UNDERCROFT_CACHE"


def own_database(environment: Mapping[str, str], *, is_root: bool) -> str:
    """Return the path of the database that this user writes: the system's for root, else one of their own."""
    named = environment.get(DATABASE_VARIABLE)
    if named:
        return named
    if is_root:
        return SYSTEM_DATABASE
    home = environment.get("XDG_DATA_HOME") or os.path.join(
        environment.get("HOME", "/nonexistent"), ".local/share"
    )
    return os.path.join(home, "undercroft", "advisories.db")


def readable_database(environment: Mapping[str, str], *, is_root: bool) -> str:
    """Return the path of the database to read: the user's own where it exists, else the system's."""
    own = own_database(environment, is_root=is_root)
    if environment.get(DATABASE_VARIABLE) or os.path.exists(own) or not os.path.exists(SYSTEM_DATABASE):
        return own
    return SYSTEM_DATABASE


def image_cache(environment: Mapping[str, str], *, is_root: bool) -> str:
    """Return the path of the file in which scans of many images keep what they read: this user's own."""
    named = environment.get(CACHE_VARIABLE)
    if named:
        return named
    if is_root:
        return SYSTEM_CACHE
    home = environment.get("XDG_CACHE_HOME") or os.path.join(
        environment.get("HOME", "/nonexistent"), ".cache"
    )
    return os.path.join(home, "undercroft", "images.db")
