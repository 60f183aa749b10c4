"""Which files' owners an inventory asks for: a reader keeps those alone of a database's million names."""

import re

_FOLDERS = re.compile(
    rb"/(?:usr/local|opt)/|/(?:boot|lib/modules|usr/lib/modules)/$|\.(?:dist|egg)-info/$|/node_modules/(?:@[^/]+/)?[^/]+/$"
)
"""Unmanaged software, kernels, and what names a package of a language's own manager."""

ASKED_SUFFIXES = (b".egg-info", b".gemspec")
"""Of names that are asked for in any folder."""


def is_asked_folder(folder: bytes) -> bool:
    """Tell whether the owners of a folder's files may be asked for; `folder` ends in a slash."""
    return _FOLDERS.search(folder) is not None


def is_asked(folder: bytes, name: bytes) -> bool:
    """Tell whether the owner of `folder` + `name` may be asked for; `folder` ends in a slash."""
    return name.endswith(ASKED_SUFFIXES) or is_asked_folder(folder)
