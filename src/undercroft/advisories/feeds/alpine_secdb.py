"""Alpine's secdb: which version of which source package fixed what, one document a release and repository.

Follows https://secdb.alpinelinux.org (JSON, and YAML as it was up to v3.11): `{"distroversion": "v3.19",
"reponame": "main", "packages": [{"pkg": {"name", "secfixes": {version: [ids]}}}]}`. Guarantees: version "0"
is not affected; an entry with several ids counts for its CVE numbers, else for all of them; one without any
id stays in as "secdb:PACKAGE:VERSION", so that nobody takes it for clean; slips of the pen that real
documents have ("2.7.16-33", "4.8.0.-r1", "CVE_2019-2426") are read as what they mean ("2.7.16-r33",
"4.8.0-r1"); what is still no version ("4.10-1-r1") is undetermined.

Statements carry no date, and the document has none: the edition is dated by the server's Last-Modified, else
by the import.
"""

import re
from collections.abc import Iterator, Mapping

from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.bounded import load_json, read_all
from undercroft.advisories.feeds.feed import Feed, FeedInput
from undercroft.advisories.feeds.headers import undated
from undercroft.advisories.feeds.plainyaml import load_yaml
from undercroft.advisories.orders.table import APK
from undercroft.advisories.records import Advisory, Status
from undercroft.errors import InputError
from undercroft.model.schema import Json

NAME = "alpine-secdb"
MAX_BYTES = 32 << 20
"""Fifty times the size of the largest of today's documents."""

_VERSION = re.compile(r"v([0-9]\.[0-9]{1,2})")
_REPOSITORY = re.compile(r"[a-z][a-z0-9-]{0,30}")
_SLIPS = re.compile(r"^([0-9.]*[0-9])\.?-r?([0-9]+)$")
_CVE = re.compile(r"(?<![A-Za-z0-9-])CVE[-_][0-9]{4}-[0-9]{4,19}(?![0-9])")
_ID = re.compile(r"(?<![A-Za-z0-9-])(?:[A-Z][A-Za-z]+-[0-9][A-Za-z0-9-]{0,60}|GHSA(?:-[a-z0-9]{4}){3})")


def parse(source: FeedInput) -> Feed:
    """Return the document's statements. Raises InputError, also while the records are taken."""
    data = read_all(source.file, MAX_BYTES, source.name)
    is_json = data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
    untrusted = load_json(data, source.name) if is_json else load_yaml(data, source.name)
    document = fields.as_object(untrusted, source.name)
    release = _release(document, source.name)
    repository = fields.as_text(document.get("reponame"), f"{source.name}: reponame")
    if not _REPOSITORY.fullmatch(repository):
        raise InputError(f"{source.name}: {ascii(repository)[:40]} is no name of a repository")
    name = f"{NAME}:{release.partition(':')[2]}:{repository}"
    header = undated(source, name, ages.ALPINE_SECDB_S, (release,), listed_for=(release,))
    return Feed(header, _advisories(document, release, name, source.name))


def _release(document: Mapping[str, Json], what: str) -> str:
    version = fields.as_text(document.get("distroversion"), f"{what}: distroversion")
    if version == "edge":
        return "alpine:edge"
    match = _VERSION.fullmatch(version)
    if match is None:
        raise InputError(f"{what}: {ascii(version)[:40]} is no release of Alpine")
    return f"alpine:{match[1]}"


def _advisories(document: Mapping[str, Json], release: str, feed: str, what: str) -> Iterator[Advisory]:
    for entry in fields.as_objects(document.get("packages"), f"{what}: packages"):
        package = fields.as_object(entry.get("pkg"), f"{what}: pkg")
        name = fields.package(package.get("name"), what)
        place = f"{what}: {name}"
        for untrusted_version, ids in fields.as_object(package.get("secfixes") or {}, place).items():
            version = _SLIPS.sub(r"\1-r\2", fields.version(untrusted_version, place))
            status = _status(version)
            for text in fields.as_texts(ids, f"{place}: {version}"):
                for vulnerability in _ids(text) or [f"secdb:{name}:{version}".replace("~", ".")[:128]]:
                    yield Advisory(
                        feed=feed,
                        release=release,
                        source=name,
                        vulnerability=vulnerability,
                        advisory="",
                        status=status,
                        fixed_version=version if status is Status.FIXED else "",
                    )


def _status(version: str) -> Status:
    if version == "0":
        return Status.NOT_AFFECTED
    try:
        APK.check(version)
    except InputError:
        return Status.UNDETERMINED  # it would sort below versions that it does not fix
    return Status.FIXED


def _ids(text: str) -> list[str]:
    """Return the ids in an entry such as "CVE-2019-1234 XSA-295 (+ regression)" or "CVE-2019-1.patch"."""
    found = [name.replace("_", "-") for name in _CVE.findall(text)] or _ID.findall(text)
    return list(dict.fromkeys(found))
