"""The families of distributions whose advisories are matched: one table.

A release key is "NAME:VERSION" ("debian:12", "alma:9", "alpine:3.19"), or "NAME" alone for one that only
rolls ("arch"). A family says how the key is read from os-release, whose packages it speaks of, in which
order their versions stand, and what its publisher's statements mean. Derivatives (Raspbian, Kali, Mint, ...)
rebuild or replace packages under versions of their own, so they are never matched as the distribution that
they come from: they are unsupported until somebody reads their own advisories.
"""

import re
from dataclasses import dataclass

from undercroft.advisories.orders.order import Order
from undercroft.advisories.orders.table import APK, BUILD, DEB, GEM, PACMAN, PEP440, RPM, SEMVER

SYSTEM = "system"
"""Stands for a manager where advisories are about the system itself, by its build."""
WHOLE, PARTLY, NAMED = "whole", "in part", "recognized only"

_MAJOR = re.compile(r"([0-9]{1,3})(?:\.[0-9]+)*")
_MINOR = re.compile(r"([0-9]{1,3}\.[0-9]{1,2})(?:\.[0-9]+)*")
_ENTERPRISE = re.compile(r"([0-9]{1,2}(?:\.[0-9]{1,2})?)")


@dataclass(frozen=True, slots=True)
class Family:
    """One distribution.

    Attributes:
        name: first part of the release key.
        title: as its publisher writes it.
        idents: os-release IDs.
        form: VERSION_ID, its group 1 goes into the key; None where the key has no version.
        manager: whose packages its advisories are about, as `Package.manager`.
        order: of their versions.
        by_binary: its advisories name binary packages; else source packages only.
        purl_type: of its package URLs.
        purl_namespaces: which of them name it.
        meaning: one sentence on what its statements say.
        level: how much of what its publisher says is read: "whole", "in part" (what has no fix yet is not
            known), "recognized only".
        cure: how its advisories are had, with "{version}" for that of the release, or that there are none to
            be read.
    """

    name: str
    title: str
    idents: tuple[str, ...]
    form: re.Pattern[str] | None
    manager: str
    order: Order
    by_binary: bool
    purl_type: str
    purl_namespaces: tuple[str, ...]
    meaning: str
    level: str = WHOLE
    cure: str = "undercroft feeds update"


def _rpm(
    name: str,
    title: str,
    idents: tuple[str, ...],
    form: re.Pattern[str] | None,
    namespaces: tuple[str, ...],
    meaning: str,
    cure: str = "",
) -> Family:
    feeds = cure or f"undercroft feeds update osv:{title.replace(' ', '')}"
    level = NAMED if cure == _BUILDS_ONLY else WHOLE if name == "rhel" else PARTLY
    return Family(name, title, idents, form, "rpm", RPM, True, "rpm", namespaces, meaning, level, feeds)


_ERRATA = "an erratum names the binary packages of one update; what has no fix yet is not listed"
_BUILDS_ONLY = "there are none: its repositories have no errata, a fix comes with a newer build"
_NO_ERRATA = "its packages are read; its publisher offers no errata, so that findings are unknown"
_REPOSITORIES = "undercroft feeds import FILE with updateinfo.xml of each of its repositories"

FAMILIES = (
    Family(
        "debian",
        "Debian",
        ("debian",),
        _MAJOR,  # /etc/debian_version gives the point release
        "dpkg",
        DEB,
        False,
        "deb",
        ("debian",),
        "the tracker says of each source package and release: fixed in a version, open, or not affected",
    ),
    Family(
        "ubuntu",
        "Ubuntu",
        ("ubuntu",),
        re.compile(r"([0-9]{1,3}\.[0-9]{2})(?:\.[0-9]+)?"),
        "dpkg",
        DEB,
        False,
        "deb",
        ("ubuntu",),
        "as Debian's; a fix in ESM only needs a subscription",
    ),
    _rpm("alma", "AlmaLinux", ("almalinux",), _MAJOR, ("almalinux",), _ERRATA),
    _rpm(
        "rocky",
        "Rocky Linux",
        ("rocky",),
        _MAJOR,
        ("rocky-linux", "rocky"),
        "an erratum names packages by a name that binary and source packages share",
    ),
    _rpm(
        "rhel",
        "Red Hat Enterprise Linux",
        ("rhel",),
        _MAJOR,
        ("redhat",),
        "VEX says of each package: fixed, affected with or without a fix to come, not affected, looked into",
        "undercroft feeds import FILE with Red Hat's VEX documents, or osv:RedHat",
    ),
    _rpm("centos", "CentOS Linux", ("centos",), _MAJOR, ("centos",), _NO_ERRATA, _BUILDS_ONLY),
    _rpm("centos-stream", "CentOS Stream", ("centos",), _MAJOR, ("centos",), _NO_ERRATA, _BUILDS_ONLY),
    _rpm(
        "oracle",
        "Oracle Linux",
        ("ol",),
        _MAJOR,
        ("oracle",),
        f"{_ERRATA}; each line of kernel-uek, and Ksplice's builds, are judged by their own",
        "undercroft feeds update updateinfo:oracle:{version}:ol{version}_baseos_latest "
        f"updateinfo:oracle:{{version}}:ol{{version}}_appstream, or {_REPOSITORIES}",
    ),
    _rpm(
        "fedora",
        "Fedora Linux",
        ("fedora",),
        _MAJOR,
        ("fedora",),
        _ERRATA,
        f"undercroft feeds update updateinfo:fedora:{{version}}:updates, or {_REPOSITORIES}",
    ),
    _rpm(
        "amazon",
        "Amazon Linux",
        ("amzn",),
        re.compile(r"(2|2023)(?:\.[0-9.]{1,20})?"),
        ("amazon", "amzn"),
        f"{_ERRATA}; kernels of the extras of 2 are judged by their own",
        _REPOSITORIES,
    ),
    _rpm(
        "opensuse-leap",
        "openSUSE Leap",
        ("opensuse-leap",),
        _MINOR,
        ("opensuse",),
        _ERRATA,
        "undercroft feeds update osv:openSUSE",
    ),
    _rpm(
        "opensuse-tumbleweed",
        "openSUSE Tumbleweed",
        ("opensuse-tumbleweed",),
        None,
        ("opensuse",),
        _ERRATA,
        "undercroft feeds update osv:openSUSE",
    ),
    _rpm(
        "sles",
        "SUSE Linux Enterprise Server",
        ("sles", "sles_sap"),
        _ENTERPRISE,
        ("suse",),
        f"{_ERRATA}; a fix in LTSS only needs a subscription",
        "undercroft feeds update osv:SUSE",
    ),
    Family(
        "alpine",
        "Alpine Linux",
        ("alpine",),
        _MINOR,
        "apk",
        APK,
        False,
        "apk",
        ("alpine",),
        "secdb lists for each source package which version fixed what; version 0 is not affected",
        PARTLY,
        "undercroft feeds update alpine-secdb:{version}:main alpine-secdb:{version}:community",
    ),
    Family(
        "arch",
        "Arch Linux",
        ("arch",),
        None,
        "pacman",
        PACMAN,
        True,
        "alpm",
        ("arch", "archlinux"),
        "a group of vulnerabilities says of its packages: fixed in a version, vulnerable, or not affected",
        WHOLE,
        "undercroft feeds update arch",
    ),
    Family(
        "windows",
        "Windows",
        ("windows",),
        re.compile(r"([0-9]{1,2}\.[0-9]\.[0-9]{4,6})(?:\.[0-9]{1,6})?"),
        SYSTEM,
        BUILD,
        False,
        "generic",
        ("microsoft",),
        "a month's document says which build of each version of Windows fixes what; programs are not matched",
        PARTLY,
        "undercroft feeds import FILE with Microsoft's CSAF or CVRF documents",
    ),
)


def _language(name: str, title: str, order: Order, purl_type: str = "") -> Family:
    meaning = "a record says from which version on a package is affected, and which one fixes it"
    cure = f"undercroft feeds update osv:{title}"
    return Family(name, title, (), None, name, order, False, purl_type or name, (), meaning, WHOLE, cure)


LANGUAGES = (
    _language("pypi", "PyPI", PEP440),
    _language("npm", "npm", SEMVER),
    _language("go", "Go", SEMVER, "golang"),
    _language("gem", "RubyGems", GEM),
    _language("cargo", "crates.io", SEMVER),
)
"""Ecosystems of languages, whose packages lie beside a system's own; the name is the release key."""

_BY_NAME = {family.name: family for family in (*FAMILIES, *LANGUAGES)}
_LANGUAGE_NAMES = frozenset(family.name for family in LANGUAGES)
_SEPARATORS = re.compile(r"[-_.]+")


def family_of(release: str) -> Family | None:
    """Return the family of a release key, None for one that no family has."""
    return _BY_NAME.get(release.partition(":")[0])


def families_with(ident: str) -> tuple[Family, ...]:
    """Return the families whose systems have the os-release ID `ident`."""
    return tuple(family for family in FAMILIES if ident in family.idents)


def is_language(release: str) -> bool:
    """Tell whether a release key is an ecosystem's of a language."""
    return release in _LANGUAGE_NAMES


def language_subject(release: str, name: str) -> str:
    """Return how the database and findings call a package of a language: "pypi:requests"."""
    plain = _SEPARATORS.sub("-", name).lower() if release == "pypi" else name  # PEP 503
    return f"{release}:{plain}"


def order_of(release: str) -> Order:
    """Return the order of versions of a release, Debian's for one that no family has."""
    family = family_of(release)
    return family.order if family else DEB
