"""Which release's statements an operating system has to be matched with.

A release key is "debian:12" or "ubuntu:22.04". Derivatives (Raspbian, Kali, Mint, ...) rebuild or replace
packages under versions of their own, so they are never matched as the distribution that they come from:
they are unsupported until somebody reads their own advisories.

Debian testing names no version: its codename stands for the version that it will become. Unstable
presents itself as testing ("trixie/sid") and is taken for it.
"""

import re

from undercroft.errors import UnsupportedError
from undercroft.model.inventory import OsRelease

_VERSIONS = {
    "debian": {
        "jessie": "8",
        "stretch": "9",
        "buster": "10",
        "bullseye": "11",
        "bookworm": "12",
        "trixie": "13",
        "forky": "14",
        "duke": "15",
    },
    "ubuntu": {
        "trusty": "14.04",
        "xenial": "16.04",
        "bionic": "18.04",
        "focal": "20.04",
        "jammy": "22.04",
        "noble": "24.04",
        "oracular": "24.10",
        "plucky": "25.04",
        "questing": "25.10",
        "resolute": "26.04",
    },
}
_VERSION_FORMS = {
    "debian": re.compile(r"([0-9]{1,3})(?:\.[0-9]+)*"),  # /etc/debian_version gives the point release
    "ubuntu": re.compile(r"([0-9]{1,3}\.[0-9]{2})(?:\.[0-9]+)?"),
}
_CODENAME = re.compile(r"[a-z]{1,32}")


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
    if os.version not in ("", codename, f"{codename}/sid") or not _CODENAME.fullmatch(codename):
        raise UnsupportedError(f"{os.name or os.ident}: {os.source} names no release that is known")
    return codename_key(os.ident, codename)


def codename_key(distribution: str, codename: str) -> str:
    """Return the release key of a codename: ("debian", "bookworm") gives "debian:12".

    A codename that is not known yet stays as it is ("debian:sid"), so that whoever writes it and whoever
    asks for it still meet.
    """
    return f"{distribution}:{_VERSIONS.get(distribution, {}).get(codename, codename)}"
