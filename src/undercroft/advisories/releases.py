"""Which release's statements an operating system has to be matched with.

A release key is "debian:12" or "ubuntu:22.04". Derivatives (Raspbian, Kali, Mint, ...) rebuild or replace
packages under versions of their own, so they are never matched as the distribution that they come from:
they are unsupported until somebody reads their own advisories.

Debian testing names no version: its codename stands for the version that it will become. Unstable
presents itself as testing ("trixie/sid") and is taken for it.
"""

import re

from undercroft.advisories.feeds.releases import DEBIAN_CODENAMES
from undercroft.errors import UnsupportedError
from undercroft.model.inventory import Inventory, OsRelease

_VERSION_FORMS = {
    "debian": re.compile(r"([0-9]{1,3})(?:\.[0-9]+)*"),  # /etc/debian_version gives the point release
    "ubuntu": re.compile(r"([0-9]{1,3}\.[0-9]{2})(?:\.[0-9]+)?"),
}


def release_key(os: OsRelease) -> str:
    """Return the release key of `os`, whose texts are untrusted.

    Raises:
        UnsupportedError: not Debian or Ubuntu themselves, or a release that names neither version nor
            codename.
    """
    form = _VERSION_FORMS.get(os.ident)
    if form is None:
        raise UnsupportedError(
            f"{os.name or os.ident or 'this operating system'}: advisories are matched for Debian and "
            "Ubuntu only; a derivative's packages are not theirs"
        )
    version = form.fullmatch(os.version)
    if version is not None:
        return f"{os.ident}:{version[1]}"
    codename = (os.codename or os.version).partition("/")[0]
    if os.ident != "debian" or os.version not in {"", codename, f"{codename}/sid"}:
        raise UnsupportedError(f"{os.name or os.ident}: {os.source} names no release that is known")
    if codename not in DEBIAN_CODENAMES:
        raise UnsupportedError(f"{os.name or os.ident}: {os.source} names the unknown release {codename!r}")
    return f"debian:{DEBIAN_CODENAMES[codename]}"


def known_release(inventory: Inventory) -> str:
    """Return the release key of an inventory's system, "" where it is unknown or not covered."""
    if inventory.os is None:
        return ""
    try:
        return release_key(inventory.os)
    except UnsupportedError:
        return ""
