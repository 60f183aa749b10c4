"""Which readers these are: what an answer that is kept depends on beside the bytes that were read.

A version alone does not tell: between two releases a reader learns to read more, and a package that one of
them needs (pytsk3, cryptography) is installed or upgraded. An answer of other readers is read anew.
"""

import hashlib
import os
from functools import cache
from importlib.machinery import PathFinder

from undercroft.version import VERSION

FOLDERS = ("disks", "inventory", "model", "sandbox", "usecases")
"""Of this package: all that a reader's child runs, and what chooses its files."""

PACKAGES = ("cryptography", "google_crc32c", "pytsk3", "zstandard")
"""That readers import where they are installed."""


@cache
def readers_digest() -> str:
    """Return the digest of the readers' code, and of which other packages they find.

    Ask for it before the first answer, not after it: the files may be replaced while a process runs on.
    """
    return digest_of(os.path.dirname(__file__))


def digest_of(package: str) -> str:
    """Return the digest of the readers in a folder with this package."""
    digest = hashlib.sha256(VERSION.encode("ascii"))
    for name in FOLDERS:
        for folder, folders, files in os.walk(os.path.join(package, name)):
            folders[:] = sorted(inner for inner in folders if inner != "__pycache__")
            for file in sorted(files):
                path = os.path.join(folder, file)
                with open(path, "rb") as opened:
                    content = opened.read()
                digest.update(f"{os.path.relpath(path, package)}\0{len(content)}\0".encode())
                digest.update(content)
    for other in PACKAGES:
        digest.update(f"{other}\0{_found(other)}\0".encode())
    return digest.hexdigest()


def _found(package: str) -> str:
    """Return what tells an installed package from another one of the same name, "" for none."""
    spec = PathFinder.find_spec(package)
    if spec is None or spec.origin is None:
        return ""
    status = os.stat(spec.origin)
    return f"{status.st_size} {status.st_mtime_ns}"
