"""Which release an erratum of an `updateinfo.xml` is for.

The format has no member for it. What publishers write, in the order in which it is believed:

| publisher | id | in words | in the packages' releases |
|---|---|---|---|
| Oracle | ELSA-2023-0302 | `<release>Oracle Linux 9</release>`, ol9_baseos_latest | .el9, .el8_10, .el9uek |
| AlmaLinux, Rocky | ALSA-2022:9999, RLSA-2022:9999 | "Rocky Linux 9 x86_64 baseos" | .el9_1 |
| Fedora, EPEL | FEDORA-2024-abc123def4, FEDORA-EPEL-... | "Fedora 40", "F40", "Fedora EPEL 9" | .fc40, .el9 |
| Amazon | ALAS2023-2023-001, ALAS2-2018-951 | "Amazon Linux 2023" | .amzn2023.0.3, .amzn2 |
| SUSE | SUSE-SLE-Module-Basesystem-15-SP4-2022-4047, openSUSE-SLE-15.4-2022-4047 | "openSUSE Leap 15.4" | |

What tells no release, or two, is an error with its cure: the caller names it. EPEL's packages are installed
on every distribution of one major version, so that its errata speak of all of these.
"""

import re
from dataclasses import dataclass

from undercroft.advisories.families import family_of
from undercroft.advisories.feeds.updateinfo_xml import Collection, Update
from undercroft.errors import InputError, UnsupportedError

EPEL = "epel"
ENTERPRISE = ("alma", "centos", "centos-stream", "oracle", "rhel", "rocky")
"""The families on whose systems EPEL's packages are installed."""

_EL = re.compile(r"[._+]el([0-9]{1,2})(?![0-9])")
_SUSE_ID = re.compile(
    r"SUSE-SLE-[A-Za-z0-9_-]{1,80}?-(?P<major>1[0-9])(?:-SP(?P<pack>[0-9]))?(?P<rest>-[A-Za-z0-9-]{1,40}?)?-20[0-9]{2}-[0-9]+"
)
_SUBSCRIBERS = ("LTSS", "ESPOS", "SLES_SAP")
_LEAP_ID = re.compile(r"openSUSE-(?:SLE|Leap)-([0-9]{2}\.[0-9])-20[0-9]{2}-[0-9]+")


@dataclass(frozen=True, slots=True)
class _Publisher:
    """How one distribution's errata show its version, as group 1; ids have it at Amazon only."""

    family: str
    ident: re.Pattern[str]
    words: re.Pattern[str]
    dist: re.Pattern[str]


_PUBLISHERS = (
    _Publisher("oracle", re.compile(r"EL[SBE]A-"), re.compile(r"\b(?:oracle linux |ol)([0-9]{1,2})\b"), _EL),
    _Publisher("alma", re.compile(r"AL[SBE]A-"), re.compile(r"\balmalinux ([0-9]{1,2})\b"), _EL),
    _Publisher("rocky", re.compile(r"RL[SBE]A-"), re.compile(r"\brocky linux ([0-9]{1,2})\b"), _EL),
    _Publisher(EPEL, re.compile(r"FEDORA-EPEL-20"), re.compile(r"\bepel ([0-9]{1,2})\b"), _EL),
    _Publisher(
        "fedora",
        re.compile(r"FEDORA-20"),
        re.compile(r"\b(?:fedora(?: linux)? |f)([0-9]{2})\b"),
        re.compile(r"\.fc([0-9]{2})(?![0-9])"),
    ),
    _Publisher(
        "amazon",
        re.compile(r"ALAS(2023|2)[A-Z0-9._-]{0,60}-20"),
        re.compile(r"\bamazon linux (2|2023)\b"),
        re.compile(r"\.amzn(2023|2)(?![0-9])"),
    ),
)
_UNREAD = (
    (
        re.compile(r"RH[SBE]A-|CE[SBE]A-"),
        "is Red Hat's: its VEX documents say more, undercroft feeds import FILE",
    ),
    (re.compile(r"FEDORA-(?:EPEL-NEXT|FLATPAK|CONTAINER)"), "is of a kind that is not read"),
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What an erratum speaks for: "oracle:9", "epel:9"; `stream` as in `records.Advisory`."""

    name: str
    stream: str = ""

    @property
    def releases(self) -> tuple[str, ...]:
        """The release keys."""
        family, _, version = self.name.partition(":")
        if family == EPEL:
            return tuple(f"{name}:{version}" for name in ENTERPRISE)
        return (self.name,)


def named_scope(text: str) -> str:
    """Return a release that the caller names, checked.

    Raises:
        UnsupportedError: no release of a distribution with rpm; the message says how one is written.
    """
    family, _, version = text.partition(":")
    known = family_of(family)
    if family == EPEL and re.fullmatch(r"[0-9]{1,2}", version):
        return text
    if known is not None and known.manager == "rpm":
        match = known.form.fullmatch(version) if known.form else None
        if (match and match[1] == version) or (known.form is None and text == family):
            return text
    raise UnsupportedError(
        f"{text!r} is no release of a distribution with rpm: as oracle:9, fedora:40, epel:9"
    )


def scope_of(update: Update, collection: Collection, named: str, what: str) -> Scope:
    """Return what the packages of one collection of an erratum are for.

    Args:
        update: untrusted.
        collection: one of its own.
        named: `named_scope` where the caller names one, "" where the file has to tell.
        what: for messages.

    Raises:
        InputError: the file tells no release, or another than the caller.
        UnsupportedError: it is of a kind that is not read.
    """
    own = _suse(update.ident) or _told(update, collection)
    place = f"{what}: erratum {ascii(update.ident)[1:81]}"
    if named:
        if own is not None and own.name != named:
            raise InputError(f"{place} is for {own.name}, and not for {named}: leave --release away")
        return Scope(named, own.stream if own else "")
    for pattern, reason in _UNREAD:
        if pattern.match(update.ident):
            raise UnsupportedError(f"{place} {reason}")
    if own is None:
        raise InputError(f"{place} does not tell which release it is for: name it, as --release oracle:9")
    return own


def _suse(ident: str) -> Scope | None:
    if match := _LEAP_ID.fullmatch(ident):
        return Scope(f"opensuse-leap:{match[1]}")
    if match := _SUSE_ID.fullmatch(ident):
        version = f"{match['major']}.{match['pack']}" if match["pack"] else match["major"]
        return Scope(f"sles:{version}", "ltss" if any(word in ident for word in _SUBSCRIBERS) else "")
    return None


def _told(update: Update, collection: Collection) -> Scope | None:
    texts = [_plain(text) for text in (collection.name, collection.short, update.release)]
    if any(pattern.match(update.ident) for pattern, _ in _UNREAD):
        return None
    by_ident = [one for one in _PUBLISHERS if one.ident.match(update.ident)]
    candidates = by_ident or [one for one in _PUBLISHERS if any(one.words.search(text) for text in texts)]
    if not candidates:
        return Scope("opensuse-tumbleweed") if "opensuse tumbleweed" in " ".join(texts) else _leap(texts)
    publisher = candidates[0]  # EPEL before Fedora, whose name its own contains
    for found in (
        *(publisher.words.findall(text) for text in texts),
        publisher.ident.findall(update.ident)[:1] if publisher.ident.groups else [],
        [tag for package in collection.packages for tag in publisher.dist.findall(package.version)],
    ):
        if found:
            return Scope(f"{publisher.family}:{found[0]}") if len(set(found)) == 1 else None
    return None


def _leap(texts: list[str]) -> Scope | None:
    match = re.search(r"\bopensuse leap ([0-9]{2}\.[0-9])\b", " ".join(texts))
    return Scope(f"opensuse-leap:{match[1]}") if match else None


def _plain(untrusted_text: str) -> str:
    return untrusted_text.lower().replace("-", " ").replace("_", " ")
