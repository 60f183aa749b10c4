"""Release keys ("debian:12", "alma:9", see `families`) from the names that publishers use."""

import re

DEBIAN_CODENAMES = {
    "woody": "3.0",
    "sarge": "3.1",
    "etch": "4.0",
    "lenny": "5.0",
    "squeeze": "6.0",
    "wheezy": "7",
    "jessie": "8",
    "stretch": "9",
    "buster": "10",
    "bullseye": "11",
    "bookworm": "12",
    "trixie": "13",
    "forky": "14",
    "duke": "15",
    "sid": "sid",
}

DEBIAN_SUITES = frozenset(("oldoldstable", "oldstable", "stable", "testing", "unstable", "experimental"))

UBUNTU_CODENAMES = {
    "trusty": "14.04",
    "xenial": "16.04",
    "bionic": "18.04",
    "focal": "20.04",
    "jammy": "22.04",
    "noble": "24.04",
    "plucky": "25.04",
    "questing": "25.10",
    "resolute": "26.04",
}

_DEBIAN_ECOSYSTEM = re.compile(r"Debian:(?P<version>[0-9]{1,3}(?:\.[0-9])?)")
_UBUNTU_ECOSYSTEM = re.compile(r"Ubuntu:(?P<pro>Pro:)?(?P<version>[0-9]{2}\.[0-9]{2})(?::LTS)?")
_RPM_ECOSYSTEM = re.compile(r"(?P<name>AlmaLinux|Rocky Linux):(?P<version>[0-9]{1,2})")
_RPM_NAMES = {"AlmaLinux": "alma", "Rocky Linux": "rocky"}
_REDHAT_ECOSYSTEM = re.compile(
    r"Red Hat:enterprise_linux:(?P<version>[0-9]{1,2})(?:\.[0-9]{1,2})?(?:::[a-z0-9_-]+)?"
)
_OPENSUSE_ECOSYSTEM = re.compile(r"openSUSE:(?:Leap (?P<version>[0-9]{1,2}\.[0-9])|Tumbleweed)")
_SUSE_ECOSYSTEM = re.compile(
    r"SUSE:Linux Enterprise (?:Server|Module for [A-Za-z0-9 ]{1,60}|High Availability Extension)"
    r"(?: for SAP Applications)? (?P<major>[0-9]{2})(?: SP(?P<pack>[0-9])|\.(?P<minor>[0-9]))?"
    r"(?P<ltss>-LTSS)?"
)
_ALPINE_ECOSYSTEM = re.compile(r"Alpine:(?:v(?P<version>[0-9]\.[0-9]{1,2})|edge)")
_LANGUAGES = {"PyPI": "pypi", "npm": "npm", "Go": "go", "RubyGems": "gem", "crates.io": "cargo"}
_UBUNTU_VERSION = re.compile(r"[0-9]{2}\.[0-9]{2}")
_DEBIAN_VERSION = re.compile(r"(?P<major>[0-9]{1,3})(?:\.[0-9]+)*(?:-[a-z-]+)?")


def debian_release(codename: str) -> str | None:
    """Return the key of a Debian release ("debian:12" for "bookworm"), None for one that is not known."""
    version = DEBIAN_CODENAMES.get(codename)
    return None if version is None else f"debian:{version}"


def is_distribution_suite(suite: str) -> bool:
    """Tell whether a suite has a name that Debian or Ubuntu use: "bookworm-updates", "stable", "jammy"."""
    name = suite.partition("-")[0].partition("/")[0]
    return name in DEBIAN_CODENAMES or name in DEBIAN_SUITES or name in UBUNTU_CODENAMES


def osv_release(ecosystem: str) -> tuple[str, str] | None:
    """Return (release key, stream) of an OSV ecosystem, None for one that is not read.

    "Ubuntu:Pro:22.04:LTS" is the stream "esm", "SUSE:Linux Enterprise Server 15 SP4-LTSS" is "ltss". Archives
    of their own with versions of their own are left out: Ubuntu's FIPS and real-time streams, Red Hat's
    extended update support, SUSE's live patches.
    """
    if match := _DEBIAN_ECOSYSTEM.fullmatch(ecosystem):
        return f"debian:{match['version']}", ""
    if match := _UBUNTU_ECOSYSTEM.fullmatch(ecosystem):
        return f"ubuntu:{match['version']}", "esm" if match["pro"] else ""
    if match := _RPM_ECOSYSTEM.fullmatch(ecosystem):
        return f"{_RPM_NAMES[match['name']]}:{match['version']}", ""
    if match := _REDHAT_ECOSYSTEM.fullmatch(ecosystem):
        return f"rhel:{match['version']}", ""
    if match := _ALPINE_ECOSYSTEM.fullmatch(ecosystem):
        return f"alpine:{match['version'] or 'edge'}", ""
    if ecosystem in _LANGUAGES:
        return _LANGUAGES[ecosystem], ""
    return _suse_release(ecosystem)


def _suse_release(ecosystem: str) -> tuple[str, str] | None:
    if match := _OPENSUSE_ECOSYSTEM.fullmatch(ecosystem):
        version = match["version"]
        return (f"opensuse-leap:{version}" if version else "opensuse-tumbleweed"), ""
    if match := _SUSE_ECOSYSTEM.fullmatch(ecosystem):
        return f"sles:{suse_version(match)}", "ltss" if match["ltss"] else ""
    return None


def suse_version(match: re.Match[str]) -> str:
    """Return "15.5" for the groups major, pack and minor of "15 SP5", "15" for the first of a line.

    Modules of 12 have no service packs; they count for the last one, the only one that has support.
    """
    part = match["pack"] or match["minor"]
    if match["major"] == "12" and not part and "module" in match[0].lower():
        part = "5"
    return f"{match['major']}.{part}" if part else match["major"]


def archive_release(origin: str, version: str, codename: str) -> str | None:
    """Return the release key of a Release file, None where its origin is neither Debian nor Ubuntu.

    Args:
        origin: its Origin field.
        version: its Version field: "12.11", "12", "12-updates", "22.04"; "" where it has none.
        codename: its Codename field: "bookworm", "bookworm-security", "jammy".
    """
    if origin == "Debian":
        if by_name := debian_release(codename.partition("-")[0].partition("/")[0]):
            return by_name
        match = _DEBIAN_VERSION.fullmatch(version)
        return f"debian:{match['major']}" if match else None
    if origin == "Ubuntu" and _UBUNTU_VERSION.fullmatch(version):
        return f"ubuntu:{version}"
    return None
