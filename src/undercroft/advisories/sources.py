"""The source package under which a distribution tracks what is installed.

Kernels and GRUB for Secure Boot come from source packages that only add a signature
("linux-signed-amd64", "grub-efi-amd64-signed", Ubuntu's "linux-signed"). No advisory ever names those:
matched by their own names, every signed kernel would look clean. They are matched as the source that
was signed, in its version.
"""

import re
from dataclasses import dataclass

_ARCHITECTURES = r"(?:amd64|arm64|armhf|i386|ia32|arm)"
_LINUX = re.compile(rf"linux-signed-{_ARCHITECTURES}")
_UBUNTU_LINUX = re.compile(r"linux-signed(-.+)?")
_PREFIXED = (
    (re.compile(rf"grub-efi-{_ARCHITECTURES}-signed"), "grub2"),
    (re.compile(rf"shim-helpers-{_ARCHITECTURES}-signed"), "shim"),
)
_SIGNING_VERSION = re.compile(r"^[0-9]+\+")


@dataclass(frozen=True, slots=True)
class Subject:
    """A source package in one version, as advisories speak of it."""

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
