"""Every parser of feeds on what nobody wrote for it: an answer or InputError, in little time and memory."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import time
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard
from csafdata import APPSTREAM8, RHEL9, UNFIXED9, Document, rpm
from erratadata import FEDORA, ORACLE, ROCKY, SUSE
from erratadata import updateinfo as updateinfo_document
from feedfixtures import Deb, changelog_text, document, feed_input, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
)
from undercroft.advisories.feeds.deb_archive import documentation
from undercroft.advisories.feeds.debian_changelog import changelog_entries
from undercroft.advisories.feeds.packages_index import listed_packages
from undercroft.advisories.feeds.registry import parse_any
from undercroft.advisories.feeds.release_file import parse_release
from undercroft.advisories.feeds.repomd import errata_in
from undercroft.advisories.feeds.severity import cvss_severity
from undercroft.advisories.feeds.sources_list import parse_deb822, parse_one_line
from undercroft.errors import InputError
from undercroft.model.finding import Severity

MAX_SECONDS = 2.0
MAX_BYTES = 64 << 20

Reader = Callable[[bytes], object]


def feed(parser) -> Reader:
    return lambda data: list(parser(feed_input(data)).records)


def text(parser) -> Reader:
    return lambda data: parser(data.decode("utf-8", "replace"), "place")


DEB_TAR = b"!<arch>\n" + b"data.tar        0           0     0     100644  1024      `\n" + bytes(1024)
RELEASE = b"Origin: Debian\nCodename: bookworm\nDate: Thu, 13 Feb 2025 20:00:00 UTC\nSHA256:\n %s 1 a/b\n" % (
    b"a" * 64
)

SECDB = b"""distroversion: v3.19
reponame: main
packages:
  - pkg:
      name: a
      secfixes:
        1.10-r0:
          - CVE-2024-0001 XSA-1
"""
SECDB_JSON = json.dumps(
    {
        "distroversion": "v3.19",
        "reponame": "main",
        "packages": [{"pkg": {"name": "a", "secfixes": {"0": ["CVE-2024-0001"], "1-r0": ["XSA-1"]}}}],
    }
).encode()
ARCH = json.dumps(
    [
        {
            "name": "AVG-1",
            "packages": ["a"],
            "status": "Fixed",
            "severity": "High",
            "fixed": "1-1",
            "issues": ["CVE-2024-0001"],
        }
    ]
).encode()
ALMA = json.dumps(
    {
        "id": "ALSA-2024:1",
        "summary": "Moderate: m:1 security update",
        "affected": [
            {
                "package": {"ecosystem": ecosystem, "name": "a"},
                "ranges": [
                    {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1:1-1.module_el9+1"}]}
                ],
                "ecosystem_specific": {"binaries": [{"a-libs": "1-1"}]},
            }
            for ecosystem in ("AlmaLinux:9", "Rocky Linux:9", "openSUSE:Leap 15.6")
        ],
        "related": ["CVE-2024-0001"],
        "modified": "2024-05-02T00:00:00Z",
    }
).encode()


def csaf_document() -> bytes:
    document = Document()
    fixed = document.relate(RHEL9, rpm("a", "1-1.el9", epoch=1))
    refused = document.relate(UNFIXED9, rpm("b", arch="src"))
    modular = document.relate_module(APPSTREAM8, "m:1", rpm("c", "1-1.module+el8"))
    document.say("fixed", fixed, modular).say("known_affected", refused)
    document.remedy("no_fix_planned", "Will not fix", [refused])
    return document.remedy(
        "vendor_fix", "", [fixed], "https://access.redhat.com/errata/RHSA-2025:1"
    ).encoded()


CVRF = json.dumps(
    {
        "DocumentTitle": {"Value": "a month"},
        "DocumentTracking": {
            "Identification": {"ID": {"Value": "2024-Aug"}},
            "CurrentReleaseDate": "2024-09-01T07:00:00",
        },
        "ProductTree": {"FullProductName": [{"ProductID": "1", "Value": "Windows Server 2022"}]},
        "Vulnerability": [
            {
                "CVE": "CVE-2024-0001",
                "Title": {"Value": "a fault"},
                "Threats": [{"Type": 3, "Description": {"Value": "Critical"}, "ProductID": ["1"]}],
                "Remediations": [{"FixedBuild": "10.0.20348.2655", "ProductID": ["1"]}],
            }
        ],
    }
).encode()
REPOMD = (
    b'<repomd><data type="updateinfo"><checksum type="sha256">%s</checksum>' % (b"a" * 64)
    + b'<location href="a/b.gz"/></data></repomd>'
)
REPOSITORY_CPES = json.dumps({"data": {"a-rpms": {"cpes": ["cpe:/o:redhat:rhel_eus:9.2::baseos"]}}}).encode()
UBUNTU_VEX = json.dumps(
    {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://example.org/a",
        "author": "Canonical Ltd.",
        "timestamp": "2025-01-10T00:00:00Z",
        "statements": [
            {
                "vulnerability": {"name": "CVE-2024-0001", "description": "a fault"},
                "status": "fixed",
                "products": [{"@id": "pkg:deb/ubuntu/a@1%2Besm1?arch=source&distro=esm-infra/jammy"}],
            }
        ],
    }
).encode()


def microsoft_csaf() -> bytes:
    build = "10.0.20348.2655"
    product = {"category": "product_version", "name": build, "product": {"product_id": "1"}}
    windows = {"category": "product_name", "name": "Windows Server 2022", "branches": [product]}
    content = {
        "document": {
            "publisher": {"namespace": "https://msrc.microsoft.com"},
            "tracking": {"id": "msrc_1", "current_release_date": "2024-09-01T07:00:00Z"},
        },
        "product_tree": {"branches": [{"name": "Microsoft", "branches": [windows]}]},
        "vulnerabilities": [{"cve": "CVE-2024-0001", "product_status": {"fixed": ["1"]}}],
    }
    return json.dumps(content).encode()


def tarred(data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        entry = tarfile.TarInfo("a.json")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def errata(data: bytes) -> object:
    return list(parse_any(feed_input(data, repository="repo")).records)


READERS: dict[str, tuple[Reader, bytes]] = {
    "secdb.yaml": (feed(alpine_secdb.parse), SECDB),
    "secdb": (feed(alpine_secdb.parse), SECDB_JSON),
    "arch": (feed(arch.parse), ARCH),
    "csaf": (feed(csaf.parse), csaf_document()),
    "csaf.tar": (feed(csaf.parse_archive), tarred(csaf_document())),
    "csaf.tar.zst": (feed(parse_any), zstandard.compress(tarred(csaf_document()))),
    "osv.alma": (feed(osv.parse_record), ALMA),
    "microsoft": (feed(microsoft.parse), microsoft_csaf()),
    "cvrf": (feed(microsoft.parse), CVRF),
    "ubuntu-vex": (feed(openvex.parse), UBUNTU_VEX),
    "repository-cpes": (feed(repository_cpes.parse), REPOSITORY_CPES),
    "repomd": (lambda data: errata_in(data, "https://a/repodata/repomd.xml"), REPOMD),
    "updateinfo": (errata, updateinfo_document(ORACLE, ROCKY, FEDORA)),
    "updateinfo.bz2": (errata, bz2.compress(updateinfo_document(SUSE))),
    "tracker": (feed(debian_tracker.parse), document("debian-tracker.json")),
    "dsa": (feed(debian_dsa.parse), document("dsa.list")),
    "kev": (feed(kev.parse), document("kev.json")),
    "epss": (feed(epss.parse), document("epss.csv")),
    "epss.gz": (feed(epss.parse), gzip.compress(document("epss.csv"))),
    "cve": (feed(cve.parse_record), document("cve.json")),
    "cve.zip": (feed(cve.parse_archive), zipped({"a.json": document("cve.json")})),
    "osv": (feed(osv.parse_record), document("osv-ubuntu.json")),
    "osv.zip": (feed(osv.parse_archive), zipped({"a.json": document("osv-debian.json")})),
    "openvex": (feed(openvex.parse), document("openvex.json")),
    "any": (feed(parse_any), document("osv-debian.json")),
    "release": (text(parse_release), RELEASE),
    "packages": (lambda data: list(listed_packages(io.BytesIO(data), "a")), Deb("a0", "1").stanza().encode()),
    "packages.xz": (
        lambda data: list(listed_packages(io.BytesIO(data), "a")),
        lzma.compress(Deb("a0", "1").stanza().encode()),
    ),
    "deb": (lambda data: documentation(io.BytesIO(data), "a", "a.deb"), DEB_TAR),
    "changelog": (lambda data: changelog_entries(data, "a"), changelog_text("a", "1")),
    "sources": (text(parse_deb822), b"Types: deb\nURIs: https://a\nSuites: b\nComponents: c\n"),
    "sources.list": (text(parse_one_line), b"deb [arch=amd64] https://a b c\n"),
}


def check(reader: Reader, data: bytes) -> str:
    """Read `data` within the caps; return the message of its refusal, "" where it was accepted."""
    message = ""
    tracemalloc.start()
    started = time.process_time()
    try:
        reader(data)
    except InputError as error:
        message = str(error)
    finally:
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert time.process_time() - started < MAX_SECONDS
    assert peak_bytes < MAX_BYTES
    assert message.isprintable()
    return message


@pytest.mark.parametrize("name", READERS)
def test_the_untouched_example_is_accepted(name):
    reader, example = READERS[name]
    assert check(reader, example) == ""


HOSTILE = (
    *(b"", b"\0", b"\xff", b"[", b"{", b'"', b"../", b"\n", b"\x1b[2J"),
    *(b"9" * 5000, b"-1", b"1e999", b"NaN", b"\\ud800", b"\\u0000"),
)


@st.composite
def mutants(draw: st.DrawFn, example: bytes) -> bytes:
    """The example with bytes replaced, removed, repeated or swapped for hostile words."""
    data = bytearray(example)
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, max(0, len(data) - 1)))
        length = draw(st.integers(0, 40))
        piece = draw(st.one_of(st.sampled_from(HOSTILE), st.binary(max_size=20)))
        data[start : start + length] = piece * draw(st.sampled_from([1, 1, 1, 300]))
    return bytes(data[: 1 << 18])


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(random=st.data())
def test_a_mutant_is_read_or_refused_within_the_caps(name, random):
    reader, example = READERS[name]
    check(reader, random.draw(mutants(example)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


def places(value: object, path: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Return the paths of all values inside a JSON value."""
    found = [path]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += places(inner, (*path, key))
    return found


JSON_READERS = ["tracker", "kev", "cve", "osv", "openvex", "any", "secdb", "arch", "csaf", "osv.alma"]
JSON_READERS += ["microsoft", "cvrf", "ubuntu-vex", "repository-cpes"]


@pytest.mark.parametrize("name", JSON_READERS)
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(random=st.data())
def test_a_value_of_another_type_anywhere_is_read_or_refused(name, random):
    reader, example = READERS[name]
    content = json.loads(example)
    path = random.draw(st.sampled_from(places(content)[1:]))
    target = content
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = random.draw(json_values)
    check(reader, json.dumps(content).encode("utf-8", "surrogatepass"))


@pytest.mark.soak
@pytest.mark.parametrize("name", READERS)
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
@given(random=st.data())
def test_thousands_of_mutants_are_read_or_refused_within_the_caps(name, random):
    reader, example = READERS[name]
    check(reader, random.draw(mutants(example)))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    st.one_of(
        st.text(max_size=60),
        st.text(alphabet="CVSS:340./AVNLPHIRUC", max_size=80).map(lambda tail: "CVSS:3.1/" + tail),
        st.text(alphabet="CVSS:340./AVNLPHIRUC", max_size=80).map(lambda tail: "CVSS:4.0/" + tail),
    )
)
def test_any_vector_has_a_severity_or_none(vector):
    severity, source = cvss_severity(vector)
    assert (severity is Severity.UNKNOWN) == (source == "")
