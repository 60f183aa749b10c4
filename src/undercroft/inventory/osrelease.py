r"""Which operating system a tree holds: os-release(5), and what came before it.

Guarantees: any bytes give values or `InputError`; nothing is executed or expanded. Values are read as
os-release(5) says: `KEY=value`, shell quotes without substitutions. Fallbacks, in this order:
/usr/lib/os-release, /etc/lsb-release, the release files of single distributions, and the registry of Windows.

    >>> parse_assignments(b'ID=debian\nVERSION_ID="12"\n')
    {'ID': 'debian', 'VERSION_ID': '12'}
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from undercroft.disks.tree import GuestTree
from undercroft.errors import InputError, NotFoundError
from undercroft.inventory import windows
from undercroft.model.inventory import OsRelease

MAX_RELEASE_BYTES = 64 << 10
MAX_VALUE_CHARS = 1024

_ASSIGNMENT = re.compile(r"""([A-Za-z_][A-Za-z0-9_]*)=(?:"((?:\\.|[^"\\])*)"|'([^']*)'|(.*))\s*""")
_ESCAPED = re.compile(r"""\\([$"'\\`])""")
_CODENAME = re.compile(r"[(,]\s*([A-Za-z]+)[^()]*\)?\s*$")
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class Release:
    """What the release files say.

    Attributes:
        os: None when there is no release file that could be read.
        families: the id and what it calls itself similar to (ID_LIKE): {"ubuntu", "debian"}.
        problems: release files that could not be read.
    """

    os: OsRelease | None
    families: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()


def read_release(tree: GuestTree) -> Release:
    """Return the release of the system in `tree`, from the first source that names one."""
    problems: list[str] = []
    for path, parse in _SOURCES:
        try:
            untrusted = tree.read(path, MAX_RELEASE_BYTES)
        except NotFoundError:
            continue
        except InputError as error:
            problems.append(f"the release file could not be read: {error}")
            continue
        release = parse(untrusted, path.decode())
        if release[0].ident:
            return Release(*release, tuple(problems))
    try:
        if found := windows.read_release(tree):
            return Release(found, frozenset({found.ident}), tuple(problems))
    except InputError as error:
        problems.append(f"the release could not be read: {error}")
    return Release(None, frozenset(), (*problems, "no release file names the operating system"))


def parse_assignments(untrusted: bytes) -> dict[str, str]:
    """Return the assignments of an os-release file; lines that are none are left out, later ones win."""
    values: dict[str, str] = {}
    for line in untrusted[:MAX_RELEASE_BYTES].decode("utf-8", "surrogateescape").split("\n"):
        match = _ASSIGNMENT.fullmatch(line.strip())
        if match:
            name, double, single, bare = match.groups()
            if double is not None:
                value = _ESCAPED.sub(r"\1", double)
            else:
                value = single if single is not None else _unescape_bare(bare)
            values[name] = value[:MAX_VALUE_CHARS]
    return values


def _unescape_bare(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text.strip())


_Found = tuple[OsRelease, frozenset[str]]


def _os_release(untrusted: bytes, source: str) -> _Found:
    values = parse_assignments(untrusted)
    ident = values.get("ID", "linux").lower()
    codename = values.get("VERSION_CODENAME") or values.get("UBUNTU_CODENAME") or ""
    if not codename and (match := _CODENAME.search(values.get("VERSION", ""))):
        codename = match[1].lower()  # "7 (wheezy)", "14.04.6 LTS, Trusty Tahr"
    name = values.get("PRETTY_NAME") or values.get("NAME") or ident
    found = OsRelease(ident, values.get("VERSION_ID", ""), codename, name, source)
    return found, frozenset({ident, *values.get("ID_LIKE", "").lower().split()})


def _lsb_release(untrusted: bytes, source: str) -> _Found:
    values = parse_assignments(untrusted)
    ident = values.get("DISTRIB_ID", "").lower()
    name = values.get("DISTRIB_DESCRIPTION") or values.get("DISTRIB_ID", "")
    found = OsRelease(
        ident, values.get("DISTRIB_RELEASE", ""), values.get("DISTRIB_CODENAME", ""), name, source
    )
    return found, frozenset({ident})


def _debian_version(untrusted: bytes, source: str) -> _Found:
    """Either a point release ("12.5") or the codename of a release to come ("trixie/sid")."""
    text = _first_line(untrusted)
    number = _NUMBER.match(text)
    version = number[0].partition(".")[0] if number and int(number[0].partition(".")[0][:6]) >= 7 else text
    codename = "" if number else text.partition("/")[0]
    found = OsRelease("debian", version if number else "", codename, f"Debian GNU/Linux {text}", source)
    return found, frozenset({"debian"})


def _named_release(untrusted: bytes, source: str) -> _Found:
    """A sentence such as "CentOS Linux release 7.9.2009 (Core)"."""
    text = _first_line(untrusted)
    ident = text.partition(" ")[0].lower()
    ident = "rhel" if text.startswith("Red Hat Enterprise") else ident
    number = _NUMBER.search(text)
    return OsRelease(ident, number[0] if number else "", "", text, source), frozenset({ident})


def _alpine_release(untrusted: bytes, source: str) -> _Found:
    text = _first_line(untrusted)
    return OsRelease("alpine", text, "", f"Alpine Linux {text}", source), frozenset({"alpine"})


def _freebsd_version(untrusted: bytes, source: str) -> _Found:
    """The script of freebsd-version(1); /etc/os-release is written when the machine starts."""
    text = parse_assignments(untrusted).get("USERLAND_VERSION", "")
    number = _NUMBER.match(text)
    ident = "freebsd" if number else ""
    found = OsRelease(ident, number[0] if number else "", "", f"FreeBSD {text}", source)
    return found, frozenset({"freebsd"})


def _first_line(untrusted: bytes) -> str:
    line = untrusted.strip().partition(b"\n")[0].decode("utf-8", "surrogateescape")
    return line.strip()[:MAX_VALUE_CHARS]


_SOURCES: tuple[tuple[bytes, Callable[[bytes, str], _Found]], ...] = (
    (b"/etc/os-release", _os_release),
    (b"/usr/lib/os-release", _os_release),
    (b"/etc/lsb-release", _lsb_release),
    (b"/etc/debian_version", _debian_version),
    (b"/etc/redhat-release", _named_release),
    (b"/etc/SuSE-release", _named_release),
    (b"/etc/alpine-release", _alpine_release),
    (b"/bin/freebsd-version", _freebsd_version),
)
