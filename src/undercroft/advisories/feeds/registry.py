"""Which format a file has, told by its content and never by its name: one explicit table."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from undercroft.advisories.feeds import (
    alpine_secdb,
    arch,
    csaf,
    cve,
    debian_dsa,
    debian_tracker,
    epss,
    kev,
    microsoft,
    openvex,
    osv,
    repository_cpes,
    ubuntu_vex,
    updateinfo,
)
from undercroft.advisories.feeds.archives import ZIP_MAGIC, documents_in, is_tar
from undercroft.advisories.feeds.bounded import json_members, read_all
from undercroft.advisories.feeds.decompression import decompressed
from undercroft.advisories.feeds.feed import Feed, FeedInput, Parser
from undercroft.errors import InputError

_HEAD_BYTES = 4096
_MAX_PEEKED = 64
MAX_PEEKED_BYTES = 1 << 30
"""Of a compressed file that is only looked at; one read takes far less."""
_EPSS_COMMENT = b"#model_version:"

Seen = dict[str, Any]


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """A format of JSON documents.

    Attributes:
        name: as shown to users.
        reads: what of it is read and what is not, in one sentence.
        fits: tells it from the first members of the document's object.
        parse: of a single document.
        parse_archive: of an archive of documents, None where there are none.
    """

    name: str
    reads: str
    fits: Callable[[Seen], bool]
    parse: Parser
    parse_archive: Parser | None = None


def _is_tracker(seen: Seen) -> bool:
    first = next(iter(seen.values()), None)
    record = next(iter(first.values()), None) if isinstance(first, dict) else None
    return isinstance(record, dict) and "releases" in record


def _is_openvex(seen: Seen) -> bool:
    return str(seen.get("@context", "")).startswith(openvex.CONTEXT)


def _is_secdb(seen: Seen) -> bool:
    return "distroversion" in seen and ("reponame" in seen or "packages" in seen)


JSON_FORMATS = (
    JsonFormat(
        "Alpine secdb (JSON, YAML)",
        "which version of a source package fixed what; no severities, no dates",
        _is_secdb,
        alpine_secdb.parse,
    ),
    JsonFormat(
        "Debian tracker (JSON)",
        "every statement of every release that has a codename we know; no dates",
        _is_tracker,
        debian_tracker.parse,
    ),
    JsonFormat("CISA KEV (JSON)", "whole", lambda seen: "catalogVersion" in seen, kev.parse),
    JsonFormat(
        "OpenVEX (JSON), Ubuntu's also as zip or tar",
        "the user's own statements; Canonical's as Ubuntu's word, without its FIPS and real-time archives",
        _is_openvex,
        openvex.parse,
        ubuntu_vex.parse_archive,
    ),
    JsonFormat(
        "Microsoft security updates (CSAF or CVRF as JSON, zip, tar)",
        "builds of Windows that fix a vulnerability; other products are passed over",
        microsoft.is_microsoft,
        microsoft.parse,
        microsoft.parse_archive,
    ),
    JsonFormat(
        "CSAF and VEX of Red Hat and SUSE (JSON, zip, tar)",
        "packages of RHEL, SLES and openSUSE with modules, and fixes of their extended streams; images and "
        "layered products are passed over",
        csaf.is_csaf,
        csaf.parse,
        csaf.parse_archive,
    ),
    JsonFormat(
        "Red Hat's repository-to-CPE mapping (JSON)",
        "which repositories have the packages of extended streams (EUS, AUS, TUS, E4S, ELS)",
        repository_cpes.is_mapping,
        repository_cpes.parse,
    ),
    JsonFormat(
        "CVE records (JSON, zip, folder)",
        "severities, titles and rejections",
        lambda seen: seen.get("dataType") == "CVE_RECORD",
        cve.parse_record,
        cve.parse_archive,
    ),
    JsonFormat(
        "OSV (JSON, zip)",
        "Debian, Ubuntu, AlmaLinux, Rocky Linux, Red Hat, SUSE, openSUSE, Alpine, PyPI, npm, Go, RubyGems, "
        "crates.io; a range that ends with the last affected version is undetermined above it",
        lambda seen: "id" in seen and "modified" in seen,
        osv.parse_record,
        osv.parse_archive,
    ),
)
DSA_FORMAT = "Debian DSA or DLA list"
EPSS_FORMAT = "EPSS (csv, csv.gz)"
ARCH_FORMAT = "Arch security tracker (JSON)"
UPDATEINFO_FORMAT = "errata of rpm repositories (updateinfo.xml, also gz, xz, zst, bz2)"
OTHER_FORMATS = (
    (
        UPDATEINFO_FORMAT,
        "security errata of Oracle Linux, Fedora, EPEL, Amazon Linux, AlmaLinux, Rocky Linux and SUSE, with "
        "modules; what has no fix yet is not in them",
    ),
    (DSA_FORMAT, "fixed versions by release; notes are passed over"),
    (EPSS_FORMAT, "whole"),
    (ARCH_FORMAT, "every group of vulnerabilities; no dates"),
)

FORMATS = (*((form.name, form.reads) for form in JSON_FORMATS), *OTHER_FORMATS)
"""Every format with one sentence on what of it is read, for the table in the documentation."""
ACCEPTED = tuple(name for name, _ in FORMATS)


def parse_any(source: FeedInput) -> Feed:
    """Return the feed in `source`, whatever its format.

    Raises:
        InputError: none of the accepted formats, which the message lists, or malformed; also while the
            records are taken.
    """
    parser = recognise(source)
    source.file.seek(0)
    return parser(source)


def recognise(source: FeedInput) -> Parser:
    """Return the parser for the format that the content of `source` has. Raises InputError."""
    source.file.seek(0)
    head = source.file.read(_HEAD_BYTES)
    source.file.seek(0)
    if not head:
        raise InputError(f"{source.name}: is empty")
    if head.startswith(ZIP_MAGIC) or is_tar(source.file, source.name):
        return _recognise_archive(source)
    if updateinfo.is_updateinfo(_beginning(source), source.name):
        return updateinfo.parse
    if head.startswith((b"\x1f\x8b", _EPSS_COMMENT)):
        return epss.parse
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        return _recognise_json(source)
    if text.startswith(b"[") and b"] D" in text[:20]:
        return debian_dsa.parse
    if text.startswith(b"[") and b'"AVG-' in text:
        return arch.parse
    if b"distroversion:" in text and b"reponame:" in text:
        return alpine_secdb.parse
    raise _unknown(source.name)


def _beginning(source: FeedInput) -> bytes:
    """Return the first bytes of a file, decompressed; none of a damaged one, which no parser would take."""
    source.file.seek(0)
    try:
        with decompressed(source.file, MAX_PEEKED_BYTES, source.name) as stream:
            return stream.read(_HEAD_BYTES)
    except InputError:
        return b""
    finally:
        source.file.seek(0)


def is_cve_record(content: bytes, what: str) -> bool:
    """Tell whether `content` is a CVE record; anything else, malformed JSON included, is not."""
    try:
        form = _fitting(content, what)
    except InputError:
        return False
    return form is not None and form.parse is cve.parse_record


def _recognise_json(source: FeedInput) -> Parser:
    form = _fitting(read_all(source.file, debian_tracker.MAX_BYTES, source.name), source.name)
    if form is None:
        raise _unknown(source.name)
    return form.parse


def _recognise_archive(source: FeedInput) -> Parser:
    for place, content in islice(documents_in(source.file, source.name), _MAX_PEEKED):
        form = _fitting(content, place) if content.lstrip()[:1] == b"{" else None
        if form and form.parse_archive:
            return form.parse_archive
    raise _unknown(source.name)


def _fitting(content: bytes, what: str) -> JsonFormat | None:
    seen: Seen = {}
    for key, value in islice(json_members(content, what), _MAX_PEEKED):
        seen[key] = value
        for form in JSON_FORMATS:
            if form.fits(seen):
                return form
    return None


def _unknown(what: str) -> InputError:
    return InputError(f"{what}: none of the formats that are read: {'; '.join(ACCEPTED)}")
