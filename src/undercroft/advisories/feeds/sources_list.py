"""APT's sources: where the host itself gets a release's packages from.

Follows sources.list(5), both styles: one-line ("deb [signed-by=...] URI SUITE COMPONENT...") and deb822
("Types:", "URIs:", ...). Takes text, gives values; reading /etc/apt is the caller's work. What the host's
administrator wrote is trusted as configuration, but a malformed entry is still an `InputError`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from undercroft.errors import InputError

_ONE_LINE = re.compile(r"(deb|deb-src)\s+(?:\[([^\]]*)\]\s*)?([^\s\[]\S*)\s+(\S+)((?:\s+\S+)*)\s*")
_DEB822_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]*):[ \t]*(.*)")


@dataclass(frozen=True, slots=True)
class AptSource:
    """One suite of one mirror.

    Attributes:
        base: the mirror's address, without a slash at its end.
        suite: "bookworm-security"; never a flat repository (a suite that ends in "/").
        components: "main", ...
        architectures: empty for the host's own.
        signed_by: Signed-By: paths, fingerprints, or a key block; "" where the source names none.
    """

    base: str
    suite: str
    components: tuple[str, ...]
    architectures: tuple[str, ...] = ()
    signed_by: str = ""


def parse_one_line(text: str, what: str) -> list[AptSource]:
    """Return the binary sources of a sources.list file. Raises InputError."""
    return list(_one_line(text, what))


def _one_line(text: str, what: str) -> Iterator[AptSource]:
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        match = _ONE_LINE.fullmatch(entry)
        if match is None:
            raise InputError(f"{what}: line {number}: no source of apt: {ascii(entry)[:120]}")
        kind, untrusted_options, base, suite, components = match.groups()
        options = dict(option.partition("=")[::2] for option in (untrusted_options or "").split())
        if kind == "deb" and not suite.endswith("/"):
            yield AptSource(
                base=base.rstrip("/"),
                suite=suite,
                components=tuple(components.split()),
                architectures=tuple(filter(None, options.get("arch", "").split(","))),
                signed_by=options.get("signed-by", ""),
            )


def parse_deb822(text: str, what: str) -> list[AptSource]:
    """Return the enabled binary sources of a .sources file. Raises InputError."""
    return [source for stanza in _deb822_stanzas(text, what) for source in _deb822_sources(stanza, what)]


def _deb822_stanzas(text: str, what: str) -> Iterator[dict[str, str]]:
    stanza: dict[str, str] = {}
    name = ""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            continue
        if not line.strip():
            if stanza:
                yield stanza
            stanza, name = {}, ""
        elif line[0] in " \t":
            if not name:
                raise InputError(f"{what}: line {number}: continues nothing")
            stanza[name] += "\n" + line.strip()
        elif match := _DEB822_FIELD.fullmatch(line):
            name = match[1].lower()
            stanza[name] = match[2].strip()
        else:
            raise InputError(f"{what}: line {number}: no field of a source: {ascii(line)[:120]}")
    if stanza:
        yield stanza


def _deb822_sources(stanza: dict[str, str], what: str) -> Iterator[AptSource]:
    if stanza.get("enabled", "yes").lower() in {"no", "false", "without", "off", "disable"}:
        return
    if "deb" not in stanza.get("types", "").split():
        return
    bases, suites = stanza.get("uris", "").split(), stanza.get("suites", "").split()
    if not bases or not suites:
        raise InputError(f"{what}: a source without URIs or Suites")
    for base in bases:
        for suite in suites:
            if not suite.endswith("/"):
                yield AptSource(
                    base=base.rstrip("/"),
                    suite=suite,
                    components=tuple(stanza.get("components", "").split()),
                    architectures=tuple(stanza.get("architectures", "").split()),
                    signed_by=stanza.get("signed-by", "").strip(),
                )
