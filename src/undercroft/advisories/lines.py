"""Builds of one package that go on side by side, in versions that say nothing of each other.

Oracle's Unbreakable Enterprise Kernel has a line for each kernel that it follows ("5.4", "5.15"), all of them
called kernel-uek; Amazon Linux 2 has kernels of several lines in its extras; Oracle's Ksplice and FIPS builds
bear epochs of their own. "5.15.0-1" is above every fix of line 5.4 without being one of its builds, and an
older line is no outdated newer one. So a line stands in the name of what advisories speak of, as a module's
stream does, and is worked out from name and version alike for advisories and for what is installed.

A line that no list speaks of is a problem of the answer: its own repository's list is not imported, or a
guest has made the line up.
"""

import re
from collections.abc import Collection, Iterable, Iterator

from undercroft.advisories.records import package_of

_UEK = re.compile(r"kernel-uek(?:-.{1,60})?")
_AMAZON = re.compile(r"kernel(?:-(?!livepatch).{1,60})?|perf|bpftool|python3?-perf")
_FIRST_TWO = re.compile(r"(?:[0-9]{1,10}:)?([0-9]{1,5}\.[0-9]{1,5})(?![0-9])")
_SPECIAL = {".ksplice": "ksplice", "_fips": "fips"}


def line_of(release: str, name: str, version: str) -> str:
    """Return the line of builds that a version of a package is of, "" for a package that has one only.

    Args:
        release: release key.
        name: of a binary or a source package, untrusted.
        version: as rpm compares it, untrusted; of a kernel in no known form it is the line "unknown".
    """
    if release.startswith("oracle:"):
        for mark, line in _SPECIAL.items():
            if mark in version:
                return line
        has_lines = _UEK.fullmatch(name) is not None
    else:
        has_lines = release == "amazon:2" and _AMAZON.fullmatch(name) is not None
    if not has_lines:
        return ""
    match = _FIRST_TWO.match(version)
    return match[1] if match else "unknown"


def unlisted(release: str, subjects: Iterable[tuple[str, str]], said: Collection[str]) -> Iterator[str]:
    """Yield why installed packages are of lines that no imported list speaks of.

    A kernel's line is one repository's, which needs not name each of its packages; Ksplice's and FIPS builds
    are of packages that have nothing to do with each other, so that each has to be named.

    Args:
        release: release key.
        subjects: (name of the subject, version) of each installed package, as advisories call it.
        said: names of the subjects that some advisory speaks of.
    """
    silent: dict[str, set[str]] = {}
    kernels = {subject.rpartition("@")[2] for subject in said} - set(_SPECIAL.values())
    for subject, version in subjects:
        package = package_of(subject)
        line = line_of(release, package, version)
        if line and line not in kernels and subject not in said:
            silent.setdefault(line, set()).add(package)
    for line, names in sorted(silent.items()):
        shown = ", ".join(sorted(names)[:5])
        yield (
            f"no imported advisory of {release} speaks of builds of the line {line} of {shown}: whether they "
            "are affected is unknown: undercroft feeds import FILE with updateinfo.xml of their repository"
        )
