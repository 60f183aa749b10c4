"""Red Hat's repository-to-CPE mapping, as it is published, and as it is not."""

import json

import pytest
from feedfixtures import parsed, refusal

from undercroft.advisories.feeds.registry import parse_any
from undercroft.advisories.feeds.repository_cpes import parse

NAME = "rhel-8-for-x86_64-appstream-eus-rpms"


def mapping(**changes: object) -> str:
    entry = {
        "cpes": [
            *("cpe:/a:redhat:rhel_eus:8.4::appstream", "cpe:/a:redhat:rhel_eus:8.6::appstream"),
            *("cpe:/a:redhat:rhel:8.3::appstream", "cpe:/a:redhat:enterprise_linux:8::appstream"),
        ],
        "repo_relative_urls": ["content/eus/rhel8/8.4/x86_64/appstream/os"],
    }
    return json.dumps({"data": {NAME: entry | changes, "jbeap-rpms": {"cpes": ["cpe:/a:redhat:jboss:7"]}}})


def test_a_repositorys_streams_are_kept_with_their_minor_releases() -> None:
    feed, records = parsed(parse_any, mapping())
    assert (feed.header.name, feed.header.releases) == ("redhat-repositories", ("rhel:8",))
    assert (feed.header.complete_for, feed.header.listed_for) == ((), ())
    assert [(one.source, one.stream, one.introduced_version) for one in records] == [
        (f"repository:{NAME}", "eus", "el8_4"),
        (f"repository:{NAME}", "eus", "el8_6"),
    ]


@pytest.mark.parametrize(
    "content",
    [
        mapping(cpes="cpe:/a:redhat:rhel_eus:8.4::appstream"),
        mapping(cpes=[1]),
        mapping(cpes=None),
        mapping(cpes=["cpe:/a:redhat:enterprise_linux:8::appstream"]),
        mapping().replace(NAME, "../../etc"),
        mapping().replace(NAME, "\\u0000"),
        json.dumps({"data": {NAME: ["cpes"]}}),
        json.dumps({"data": []}),
        "{}",
        mapping()[:-9],
    ],
)
def test_a_malformed_mapping_is_refused(content: str) -> None:
    assert refusal(parse, content).startswith("feed: ")
