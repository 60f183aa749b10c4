"""Alpine's secdb as JSON and as YAML, with what its entries hold beside a CVE number."""

import json
from datetime import timedelta

import pytest
from feedfixtures import NOW, feed_input, parsed, refusal

from undercroft.advisories.feeds import alpine_secdb
from undercroft.advisories.feeds.registry import parse_any
from undercroft.advisories.records import Status

YAML = """---
distroversion: v3.19
reponame: main
archs:
  - x86_64
apkurl: "{{urlprefix}}/{{distroversion}}/{{pkg.name}}-{{pkg.ver}}.apk"
packages:
  - pkg:
      name: apache2
      secfixes:
        2.4.10-r0:
          - CVE-2019-9517 CVE-2019-10081 (+ regression fix)
        0:
          - CVE-2020-0001.patch
  - pkg:
      name: xen
      secfixes:
        4.9.0-r0:
          - XSA-207
          - CVE-????-????? XSA-295
          - nobody knows
  - pkg:
      name: bare
"""


def as_json(**changes: object) -> bytes:
    secfixes = {"1.10-r0": ["CVE-2024-0001"], "0": ["CVE-2024-0002"]}
    document = {
        "distroversion": "v3.19",
        "reponame": "community",
        "packages": [{"pkg": {"name": "a", "secfixes": secfixes}}],
    }
    return json.dumps(document | changes).encode()


def test_yaml_and_json_say_the_same_kind_of_thing() -> None:
    feed, records = parsed(parse_any, YAML)
    assert feed.header.name == "alpine-secdb:3.19:main"
    assert feed.header.listed_for == feed.header.releases == ("alpine:3.19",)
    said = {(item.source, item.vulnerability, item.fixed_version, item.status) for item in records}
    assert said == {
        ("apache2", "CVE-2019-9517", "2.4.10-r0", Status.FIXED),
        ("apache2", "CVE-2019-10081", "2.4.10-r0", Status.FIXED),
        ("apache2", "CVE-2020-0001", "", Status.NOT_AFFECTED),
        ("xen", "XSA-207", "4.9.0-r0", Status.FIXED),
        ("xen", "XSA-295", "4.9.0-r0", Status.FIXED),
        ("xen", "secdb:xen:4.9.0-r0", "4.9.0-r0", Status.FIXED),
    }
    feed, records = parsed(parse_any, as_json())
    assert feed.header.name == "alpine-secdb:3.19:community"
    assert [(item.fixed_version, item.status) for item in records] == [
        ("1.10-r0", Status.FIXED),
        ("", Status.NOT_AFFECTED),
    ]


def test_the_servers_date_dates_the_edition() -> None:
    day = NOW - timedelta(days=3)
    assert alpine_secdb.parse(feed_input(YAML, modified_at=day)).header.published_at == day
    assert parsed(parse_any, as_json(distroversion="edge"))[0].header.releases == ("alpine:edge",)


@pytest.mark.parametrize(
    ("written", "meant"), [("2.7.16-33", "2.7.16-r33"), ("4.8.0.-r1", "4.8.0-r1"), ("1.2a-r1", "1.2a-r1")]
)
def test_slips_in_versions_are_read_as_what_they_mean(written: str, meant: str) -> None:
    packages = [{"pkg": {"name": "a", "secfixes": {written: ["CVE-2024-0001"]}}}]
    assert parsed(alpine_secdb.parse, as_json(packages=packages))[1][0].fixed_version == meant


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (as_json(distroversion="3.19"), "is no release of Alpine"),
        (as_json(reponame="../x"), "is no name of a repository"),
        (as_json(packages=[{"pkg": {"name": "a b"}}]), "is not a package name"),
        (as_json(packages=[{"pkg": {"name": "a", "secfixes": {"1 0": []}}}]), "is not a version"),
        (as_json(packages=[{"pkg": {"name": "a", "secfixes": {"1": "CVE-2024-1"}}}]), "expected a list"),
        (YAML + "  - *x\n", "anchors, aliases or tags"),
        (YAML.replace("name: bare", "name: &x bare"), "anchors, aliases or tags"),
        (YAML.replace("name: bare", "name: !!int 1"), "anchors, aliases or tags"),
        (YAML.replace("name: bare", "name: a\n      name: b"), "stands twice"),
        (YAML + "---\na: b\n", "2 YAML documents"),
        (YAML + "x: " + "[" * 40 + "]" * 40, "nested deeper than 16"),
        (YAML + "\tx", "no valid YAML"),
    ],
)
def test_what_is_malformed_is_refused(data: bytes | str, message: str) -> None:
    assert message in refusal(alpine_secdb.parse, data)
