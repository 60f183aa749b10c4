"""Ruby's gems, by the names of their specifications: NAME-VERSION.gemspec, NAME-VERSION-PLATFORM.gemspec.

A specification is a program; its name is what RubyGems itself looks a gem up by, and nothing of it is run.
"""

import re
from collections.abc import Iterator
from functools import partial

from undercroft.disks.text import text
from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError
from undercroft.inventory.languages.finding import Candidate, Finder, package, unique_folders
from undercroft.model.inventory import Package

FOLDERS = (
    b"/usr/lib/ruby/gems/*/specifications",
    b"/usr/lib64/ruby/gems/*/specifications",
    b"/usr/share/gems/specifications",
    b"/usr/local/lib/ruby/gems/*/specifications",
    b"/usr/local/share/gems/specifications",
    b"/usr/local/bundle/specifications",
    b"/var/lib/gems/*/specifications",
    b"/opt/*/lib/ruby/gems/*/specifications",
)

_NAME = re.compile(r"(?P<name>.+?)-(?P<version>\d[0-9A-Za-z.]*)(?:-.+)?\.gemspec", re.DOTALL)


def find(finder: Finder) -> Iterator[Candidate]:
    """Yield the specifications. Raises LimitReached."""
    for folder in unique_folders(finder, FOLDERS):
        for where in (folder, folder + b"/default"):
            for name in finder.names(where):
                if name.endswith(b".gemspec"):
                    yield Candidate(where + b"/" + name, partial(_read, name))


def _read(name: bytes, _tree: GuestTree) -> list[Package]:
    match = _NAME.fullmatch(text(name))
    if match is None:
        raise InputError("gem: the file's name has no version")
    return [package("gem", match["name"], match["version"])]
