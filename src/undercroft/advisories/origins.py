"""Whether an rpm says of itself that it was built for the release that has it: its dist tag and its vendor.

Without a package index nobody can say which versions a distribution of rpms has offered, and a version of
another build stands in the same order as its own: "3.0.7-99.fc39" is above every fix of an el9. What bears
another release's or vendor's mark, and what bears none where all of a distribution's packages do, is named
as unassessed: an advisory's silence about it means nothing. It may be legitimate, as packages of EPEL (where
its errata are not imported) and of other publishers are. What is below a fix stays a finding, whatever its
mark.

All of it is the guest's word, so that it clears nothing: who writes a well-formed version of the release is
believed here.
"""

import re
from collections.abc import Collection, Iterable, Iterator

from undercroft.advisories.families import family_of
from undercroft.model.finding import Unassessed
from undercroft.model.inventory import Package

_DIST_TAG = re.compile(r"(?<![A-Za-z0-9])(el|fc|amzn|mga|oe|azl)([0-9]{1,4})(?![0-9])")
_REBUILDER = re.compile(r"(?<![A-Za-z0-9])(alma|centos|rocky)(?![A-Za-z0-9])")
_ENTERPRISE = frozenset({"alma", "centos", "centos-stream", "oracle", "rhel", "rocky"})
"""Families whose packages bear ".elN", those of modules ".module_elN" or ".module+elN"."""
_FEDORA = "fedora"
_VENDORS = {
    "alma": ("almalinux",),
    "amazon": ("amazon",),
    "centos": ("centos",),
    "centos-stream": ("centos",),
    "fedora": ("fedora",),
    "opensuse-leap": ("opensuse", "suse"),
    "opensuse-tumbleweed": ("opensuse", "suse"),
    "oracle": ("oracle america",),
    "rhel": ("red hat",),
    "rocky": ("rocky",),
    "sles": ("suse",),
}
"""How the vendor in the headers of a family's own packages begins, in small letters."""
_NO_PACKAGES = frozenset({"gpg-pubkey"})
"""Entries of rpm's database that are keys, with a key's number for a version."""
_VENDOR_SHOWN = 40
_EPEL_FEED, _EPEL_VENDOR = "updateinfo:epel:", "fedora project"
"""EPEL's packages are for every enterprise family; its errata speak of them where they are imported."""


def foreign(release: str, package: Package, feeds: Iterable[str] = ()) -> str:
    """Return why an installed rpm is not of `release`, "" where nothing says so.

    Args:
        release: release key of the machine.
        package: untrusted.
        feeds: names of the feeds that speak for the release.
    """
    family = family_of(release)
    if family is None or family.manager != "rpm" or package.manager != "rpm" or package.name in _NO_PACKAGES:
        return ""
    build = package.version.rpartition("-")[2]
    tags = _DIST_TAG.findall(build)
    for kind, number in tags:
        if not _is_own_tag(family.name, release, kind, number):
            return f"built for {kind}{number}, not for {release}"
    if family.name in _ENTERPRISE and not tags:
        return "its version names no release"
    rebuilders = [name for name in _REBUILDER.findall(build) if name != family.name.partition("-")[0]]
    if rebuilders:
        return f"built by {rebuilders[0]}, not by {family.title}"
    if package.origin and not package.origin.lower().startswith(_vendors(family.name, feeds)):
        return f"its vendor is {package.origin[:_VENDOR_SHOWN]}, not {family.title}'s"
    return ""


def unassessed(
    release: str, packages: Iterable[Package], feeds: Collection[str] = ()
) -> Iterator[Unassessed]:
    """Yield the rpms that are not of `release`, as they come; the arguments are `foreign`'s."""
    for package in packages:
        if reason := foreign(release, package, feeds):
            yield Unassessed(package.name, package.version, reason)


def problems(release: str, packages: int, strangers: int) -> Iterator[str]:
    """Yield why the answer for a machine says little: most of its packages are not of the release.

    A guest that calls itself another release than it is would else have none of its vulnerabilities: of all
    that is said of Alma 8, next to nothing is above a version of 9.

    Args:
        release: release key of the machine.
        packages: how many rpms it has.
        strangers: how many of them are `unassessed`.
    """
    if strangers * 2 > packages:
        yield (
            f"{strangers} of {packages} packages are not builds of {release}, which the system calls itself: "
            "whether they are affected is unknown"
        )


def _vendors(name: str, feeds: Iterable[str]) -> tuple[str, ...]:
    vendors = _VENDORS.get(name, ("",))
    if name in _ENTERPRISE and any(feed.startswith(_EPEL_FEED) for feed in feeds):
        return (*vendors, _EPEL_VENDOR)
    return vendors


def _is_own_tag(name: str, release: str, kind: str, number: str) -> bool:
    major = release.partition(":")[2]
    if name in _ENTERPRISE:
        return kind == "el" and number == major
    if name == "amazon":
        return kind == "amzn" and number == major
    if name == _FEDORA:  # what was not built anew for a release keeps the tag of the one before
        return kind == "fc" and number.isdigit() and major.isdigit() and int(number) <= int(major)
    return name not in _VENDORS  # of SUSE's none; of families that this table does not hold, nobody knows
