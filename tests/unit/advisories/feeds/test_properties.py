"""Every parser of feeds on what nobody wrote for it: an answer or InputError, in little time and memory."""

import gzip
import io
import json
import lzma
import time
import tracemalloc
from collections.abc import Callable

import pytest
from feedfixtures import Deb, changelog_text, document, feed_input, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from undercroft.advisories.feeds import cve, debian_dsa, debian_tracker, epss, kev, openvex, osv
from undercroft.advisories.feeds.deb_archive import documentation
from undercroft.advisories.feeds.debian_changelog import changelog_entries
from undercroft.advisories.feeds.packages_index import listed_packages
from undercroft.advisories.feeds.registry import parse_any
from undercroft.advisories.feeds.release_file import parse_release
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

READERS: dict[str, tuple[Reader, bytes]] = {
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
@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
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


@pytest.mark.parametrize("name", ["tracker", "kev", "cve", "osv", "openvex", "any"])
@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
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
