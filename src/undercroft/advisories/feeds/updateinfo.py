"""The errata of a repository of rpms: `updateinfo.xml`, plain or compressed, as createrepo_c writes it.

Oracle, Fedora (EPEL too), Amazon, AlmaLinux, Rocky and SUSE publish their errata in it, beside the packages,
and dnf and zypper read it there: `repodata/*-updateinfo.xml.gz`, named in repomd.xml. `updateinfo_xml` reads
the document, `updateinfo_releases` says which release an erratum is for. What is taken of it:

1. An erratum counts where its type is security, or where it refers to a CVE number. It speaks for each CVE
   number among its references; Fedora names them in the titles of bugs only. One without any speaks for its
   own id.
2. Each package of it is fixed in the version that it brings: a binary package, or a source package (arch
   "src"). An erratum that was taken back (SUSE: "retracted") still tells what was affected, and stays.
3. A collection that names a module speaks for that module and stream only.
4. The file does not tell which repository it is of, and two repositories of one release must not replace
   each other: the name comes from the caller, or from the folder above `repodata`, as mirrors and dnf's cache
   lay it out.
5. A list of errata is a release's word only where it is the base's: `listed_for` has "oracle:9/base" and
   "oracle:9/appstream" for the parts that a list turns out to be of, and silence counts where all are there.

Oracle publishes the same errata as OVAL too (com.oracle.elsa-*.xml), one file for all repositories; it is not
read: what it says is in updateinfo.xml, where dnf looks for it.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import PurePath
from typing import Final

from undercroft.advisories.coverage import UPDATEINFO
from undercroft.advisories.feeds import ages, fields
from undercroft.advisories.feeds.decompression import decompressed
from undercroft.advisories.feeds.feed import Feed, FeedInput
from undercroft.advisories.feeds.headers import Survey, dated
from undercroft.advisories.feeds.osv_subjects import modules_in
from undercroft.advisories.feeds.updateinfo_releases import EPEL, Scope, named_scope, scope_of
from undercroft.advisories.feeds.updateinfo_xml import Collection, ListedPackage, Update, updates
from undercroft.advisories.lines import line_of
from undercroft.advisories.records import ANY_STREAM, Advisory, Status, subject_name
from undercroft.errors import InputError, UnsupportedError
from undercroft.model.finding import Severity

MAX_BYTES: Final = 2 << 30
"""Decompressed; the largest that are published have some 300 MB."""
MAX_STATEMENTS: Final = 500_000
"""Of one erratum: its packages times its vulnerabilities."""
MAX_SCOPES: Final = 4
MIN_LISTED: Final = 50
"""From how many errata on a list counts as what the publisher has fixed, and not as an excerpt."""

_ROOT = re.compile(rb"<([A-Za-z_:][A-Za-z0-9_:.-]{0,60})[\s>/]")
_PROLOGUE = re.compile(rb"\s*(?:<\?.{0,500}?\?>\s*|<!--.{0,2000}?-->\s*){0,8}", re.DOTALL)
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
_CACHE_KEY = re.compile(r"-[0-9a-f]{16}")
_CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,19}(?![0-9])")
_EPOCH_SECONDS = re.compile(r"[0-9]{9,11}")
_BASE = frozenset(("systemd", "sudo", "curl", "openssh-server"))
_APPSTREAM = frozenset(("httpd", "nginx", "firefox", "php", "postgresql", "nodejs"))
_IN_PARTS = ("alma:", "oracle:", "rocky:")


def is_updateinfo(head: bytes, what: str) -> bool:
    """Tell whether the first bytes of a document, decompressed, are those of an `updateinfo.xml`.

    Raises:
        UnsupportedError: it is OVAL.
    """
    text = head.removeprefix(b"\xef\xbb\xbf")
    prologue = _PROLOGUE.match(text)
    root = _ROOT.match(text, prologue.end() if prologue else 0)
    if root is not None and root[1].endswith(b"oval_definitions"):
        raise UnsupportedError(
            f"{what}: OVAL is not read: the same errata stand in updateinfo.xml, in the repository's repodata"
        )
    return root is not None and root[1] == b"updates"


def parse(source: FeedInput) -> Feed:
    """Return the statements of the errata. Raises InputError, also while the records are taken."""
    named = named_scope(source.release) if source.release else ""
    repository = source.repository or repository_of(source.name)
    if not _REPOSITORY.fullmatch(repository):
        raise InputError(
            f"{source.name}: which repository its errata are of is not told: name it, as --repository "
            "ol9_appstream, or leave the file in its folder NAME/repodata"
        )
    survey = Survey(source.now)
    parts: set[str] = set()
    for update in _updates(source):
        for text in (update.issued, update.updated):
            survey.add(_moment(text, source.name), ())
        by_scope = _names(update, source, named)
        survey.add(None, by_scope)
        parts.update(f"{scope}/{part}" for scope, names in by_scope.items() for part in _parts(scope, names))
    if survey.newest is None or not survey.about:
        raise InputError(f"{source.name}: names no dated erratum that fixes a vulnerability")
    if len(survey.about) > MAX_SCOPES:
        raise InputError(f"{source.name}: is about {len(survey.about)} releases, the limit is {MAX_SCOPES}")
    name = f"{UPDATEINFO}{'+'.join(sorted(survey.about))}:{repository}"
    whole = survey.with_at_least(MIN_LISTED)
    header = dated(
        name,
        survey.newest,
        ages.UPDATEINFO_S,
        [release for scope in survey.about for release in Scope(scope).releases],
        listed_for=tuple(sorted(part for part in parts if part.partition("/")[0] in whole)),
    )
    return Feed(
        header, (found for update in _updates(source) for found in _advisories(update, name, source, named))
    )


def repository_of(path: str) -> str:
    """Return which repository a file is of, by the folder above its `repodata`; "" where there is none.

    dnf's cache has "ol9_baseos_latest-0123456789abcdef/repodata/...-updateinfo.xml.gz".
    """
    parts = PurePath(path).parts
    if len(parts) < 3 or parts[-2] != "repodata":
        return ""
    return _CACHE_KEY.sub("", parts[-3])


def _updates(source: FeedInput) -> Iterator[Update]:
    """Yield the errata that count (1)."""
    source.file.seek(0)
    with decompressed(source.file, MAX_BYTES, source.name) as stream:
        for update in updates(stream, source.name):
            if update.kind == "security" or any(kind == "cve" for kind, _, _ in update.references):
                yield update


def _names(update: Update, source: FeedInput, named: str) -> dict[str, set[str]]:
    """Return the names of the packages that an erratum brings, by what it is for."""
    found: dict[str, set[str]] = {}
    for collection in update.collections:
        if collection.packages:
            scope = scope_of(update, collection, named, source.name).name
            found.setdefault(scope, set()).update(package.name for package in collection.packages)
    return found


def _parts(scope: str, names: set[str]) -> Iterator[str]:
    if scope.startswith(f"{EPEL}:"):
        return
    if names & _BASE:
        yield "base"
    if names & _APPSTREAM and scope.startswith(_IN_PARTS):
        yield "appstream"


def _advisories(update: Update, feed: str, source: FeedInput, named: str) -> Iterator[Advisory]:
    place = f"{source.name}: erratum"
    ident = fields.ident(update.ident, place)
    issued = _moment(update.issued, source.name) or _moment(update.updated, source.name)
    severity = fields.severity_word(update.severity)
    title = fields.title(update.title)
    vulnerabilities = _vulnerabilities(update)
    if len(vulnerabilities) * sum(len(one.packages) for one in update.collections) > MAX_STATEMENTS:
        raise InputError(f"{place} {ident}: makes more than {MAX_STATEMENTS} statements")
    for collection in update.collections:
        if not collection.packages:
            continue
        scope = scope_of(update, collection, named, source.name)
        by = "" if severity is Severity.UNKNOWN else f"{scope.name.partition(':')[0]}:erratum"
        for release in scope.releases:
            for subject, version in _subjects(release, collection, title):
                for vulnerability in vulnerabilities:
                    yield Advisory(
                        feed=feed,
                        release=release,
                        source=subject,
                        vulnerability=vulnerability,
                        advisory=ident,
                        status=Status.FIXED,
                        fixed_version=version,
                        stream=scope.stream,
                        published_on=issued.date() if issued else None,
                        severity=severity,
                        severity_source=by,
                        title=title,
                    )


def _subjects(release: str, collection: Collection, title: str) -> dict[tuple[str, str], None]:
    """Return (subject's name, fixed version) of a collection's packages, each once (2, 3)."""
    found: dict[tuple[str, str], None] = {}
    for package in collection.packages:
        for module in _modules(release, collection, package, title):
            is_source = package.architecture in {"src", "nosrc"}
            found[subject_name(package.name, binary=not is_source, module=module), package.version] = None
    return found


def _modules(release: str, collection: Collection, package: ListedPackage, title: str) -> tuple[str, ...]:
    if collection.module:
        return (collection.module,)
    if ".module" in package.version:
        return modules_in(title) or (ANY_STREAM,)
    return (line_of(release, package.name, package.version),)


def _vulnerabilities(update: Update) -> list[str]:
    """Return the CVE numbers that an erratum refers to, its own id where there is none (1)."""
    texts = [ident for kind, ident, _ in update.references if kind == "cve"]
    texts += [title for kind, _, title in update.references if kind == "cve" or update.kind == "security"]
    found = dict.fromkeys(number for text in texts for number in _CVE.findall(text))
    return list(found) or [update.ident]


def _moment(text: str, what: str) -> datetime | None:
    """Return a date of an erratum: "2023-02-17 20:41:00", "2023-02-17", or SUSE's seconds since 1970.

    In another form it is no date, and no reason to do without the errata of a whole repository.
    """
    if _EPOCH_SECONDS.fullmatch(text):
        return datetime.fromtimestamp(int(text), UTC)
    try:
        return fields.moment(text.removesuffix(" UTC"), what) if text else None
    except InputError:
        return None
