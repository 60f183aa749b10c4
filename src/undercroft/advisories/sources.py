"""The names under which a distribution's advisories speak of what is installed.

Debian, Ubuntu and Alpine track source packages. rpm's distributions and Arch name binary packages, some of
them source packages too: what is said of the binary package goes before what is said of its source. A
package of a module's stream (rpm) is meant only by what names that stream.

Kernels and GRUB for Secure Boot come from source packages that only add a signature
("linux-signed-amd64", "grub-efi-amd64-signed", Ubuntu's "linux-signed"). No advisory ever names those:
matched by their own names, every signed kernel would look clean. They are matched as the source that
was signed, in its version.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from undercroft.advisories.families import SYSTEM, Family, is_language, language_subject
from undercroft.advisories.lines import line_of
from undercroft.advisories.orders.table import RPM
from undercroft.advisories.records import ANY_STREAM, subject_name
from undercroft.model.inventory import Inventory, Package

_ARCHITECTURES = r"(?:amd64|arm64|armhf|i386|ia32|arm)"
_LINUX = re.compile(rf"linux-signed-{_ARCHITECTURES}")
_UBUNTU_LINUX = re.compile(r"linux-signed(-.+)?")
_PREFIXED = (
    (re.compile(rf"grub-efi-{_ARCHITECTURES}-signed"), "grub2"),
    (re.compile(rf"shim-helpers-{_ARCHITECTURES}-signed"), "shim"),
)
_CLIENT = re.compile(r"\bwindows (?:xp|vista|7|8|8\.1|10|11)\b")
_SIGNING_VERSION = re.compile(r"^[0-9]+\+")


@dataclass(frozen=True, slots=True)
class Subject:
    """A package in one version, as advisories speak of it: `source` is a `records.subject_name`."""

    source: str
    version: str


def tracked(release: str, source: str, source_version: str, version: str) -> Subject:
    """Return what advisories of `release` call a binary package of `source`.

    Args:
        release: release key.
        source: source package, untrusted.
        source_version: its version, untrusted.
        version: the binary package's version, which carries the signed source's.
    """
    if "signed" not in source:
        return Subject(source, source_version)
    if release.startswith("debian:") and _LINUX.fullmatch(source):
        return Subject("linux", signed_version(source_version))
    if release.startswith("ubuntu:") and (match := _UBUNTU_LINUX.fullmatch(source)):
        return Subject("linux" + (match[1] or ""), source_version)
    for pattern, signed_source in _PREFIXED:
        if pattern.fullmatch(source):
            return Subject(signed_source, _SIGNING_VERSION.sub("", version))
    return Subject(source, source_version)


def signed_version(version: str) -> str:
    """Return the version of linux that a version of linux-signed-* signs ("6.1.123+1" is "6.1.123-1")."""
    return version.replace("+", "-", 1)


def packages_of(family: Family, inventory: Inventory) -> list[Package]:
    """Return the packages that advisories of `family` are about; the system itself is one where they are so.

    Packages of other managers than the family's own (pip, snap, ...) are left out: no advisory means them.
    """
    if family.manager != SYSTEM:
        return [package for package in inventory.packages if package.manager == family.manager]
    if inventory.os is None:
        return []
    version = inventory.os.version
    return [Package(SYSTEM, name, version, "", name, version) for name in _windows(inventory.os.name)]


def _windows(untrusted_name: str) -> tuple[str, ...]:
    """Return what advisories call a Windows; one whose name tells no server from a client counts as both."""
    name = untrusted_name.lower()
    if "server" in name:
        return ("windows-server",)
    return ("windows",) if _CLIENT.search(name) else ("windows", "windows-server")


Epochs = Mapping[tuple[str, str], str]
"""Epochs ("1:") by source package and version-release, see `epochs`."""


def epochs(packages: Iterable[Package]) -> Epochs:
    """Return the epochs of source packages that rpm's database does not record, from their binaries.

    A binary package of its source's own version has its source's epoch too. Where they differ, the lowest
    counts: an epoch that only one of them has would lift the others above their fixes.
    """
    found: dict[tuple[str, str], str] = {}
    for package in packages:
        epoch, separator, bare = package.version.rpartition(":")
        if bare == package.source_version:
            source = package.source, bare
            named = f"{epoch}{separator}"
            found[source] = min(named, found.get(source, named), key=lambda text: RPM.key(f"{text}0"))
    return found


def subjects(family: Family, release: str, package: Package, known_epochs: Epochs) -> tuple[Subject, ...]:
    """Return what advisories of `family` call an installed package, most specific first, at least one.

    Args:
        family: that of `release`.
        release: release key.
        package: of the family's manager, untrusted.
        known_epochs: `epochs` of the inventory.
    """
    if family.manager == "dpkg":
        return (tracked(release, package.source, package.source_version, package.version),)
    if is_language(release):
        return (Subject(language_subject(release, package.name), package.version),)
    if not family.by_binary:
        return (Subject(package.source, package.source_version),)
    source_version = package.source_version
    if ":" not in source_version:
        source_version = known_epochs.get((package.source, source_version), "") + source_version
    if not package.module:
        line = line_of(release, package.name, package.version)
        named = Subject(subject_name(package.name, binary=True, module=line), package.version)
        line = line_of(release, package.source, source_version)
        return (named, Subject(subject_name(package.source, module=line), source_version))
    return tuple(
        Subject(subject_name(name, binary=is_binary, module=stream), version)
        for name, version, is_binary in (
            (package.name, package.version, True),
            (package.source, source_version, False),
        )
        for stream in (package.module, ANY_STREAM)
    )
