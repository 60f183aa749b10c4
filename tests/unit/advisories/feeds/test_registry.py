import bz2
import gzip

import pytest
from erratadata import FEDORA, ORACLE, updateinfo
from feedfixtures import document, feed_input, parsed, refusal, zipped

from undercroft.advisories.feeds.registry import ACCEPTED, is_cve_record, parse_any

FILES = {
    "debian-tracker": document("debian-tracker.json"),
    "debian-dsa": document("dsa.list"),
    "debian-dla": document("dsa.list").replace(b"DSA-", b"DLA-"),
    "kev": document("kev.json"),
    "epss": gzip.compress(document("epss.csv")),
    "cve:CVE-2022-0847": document("cve.json"),
    "cve": zipped({"delta.json": b"[]", "cves/a.json": document("cve.json")}),
    "osv:DSA-5863-1": document("osv-debian.json"),
    "osv:Debian": zipped({"a.json": document("osv-debian.json")}),
    "osv:Ubuntu": zipped({"a.json": document("osv-ubuntu.json")}),
    "openvex:https://vex.example.org/2025/web01": document("openvex.json"),
    "updateinfo:oracle:9:repo": updateinfo(ORACLE),
    "updateinfo:fedora:43:repo": bz2.compress(updateinfo(FEDORA)),
    "redhat-repositories": b'{"data": {"a-rpms": {"cpes": ["cpe:/o:redhat:rhel_eus:9.2::baseos"]}}}',
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_is_recognised_by_its_content(name):
    feed, records = parsed(parse_any, FILES[name], repository="repo")
    assert feed.header.name == name
    assert records


def test_a_files_name_means_nothing():
    assert parse_any(feed_input(FILES["kev"], name="epss.csv.gz")).header.name == "kev"


@pytest.mark.parametrize(
    "content",
    [
        b"<!DOCTYPE html><title>404</title>",
        b"{}",
        b'{"a": 1}',
        b'{"a": {"b": {"c": 1}}}',
        b"\x7fELF",
        b"Package: a\n",
        b"[1, 2]",
        zipped({"a.txt": b"x"}),
        zipped({"a.json": b"[]"}),
        zipped({"inner.zip": zipped({"a.json": document("cve.json")})}),
    ],
)
def test_anything_else_is_refused_with_the_list_of_what_is_accepted(content):
    message = refusal(parse_any, content)
    assert "none of the formats that are read" in message
    assert all(name in message for name in ACCEPTED)


def test_an_empty_file_is_refused():
    assert "is empty" in refusal(parse_any, b"")


def test_a_cve_record_is_told_from_other_documents():
    assert is_cve_record(document("cve.json"), "a")
    assert not is_cve_record(document("osv-debian.json"), "a")
    assert not is_cve_record(b"{", "a")
