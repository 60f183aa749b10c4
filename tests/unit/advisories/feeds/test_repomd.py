"""repomd.xml: where a repository's errata lie, and nowhere else."""

import pytest

from undercroft.advisories.feeds.repomd import MAX_BYTES, ListedErrata, errata_in
from undercroft.errors import InputError

URL = "https://example.org/OL9/appstream/x86_64/repodata/repomd.xml"
DIGEST = "a" * 64
REPOMD = f"""<?xml version="1.0" encoding="UTF-8"?>
<repomd xmlns="http://linux.duke.edu/metadata/repo" xmlns:rpm="http://linux.duke.edu/metadata/rpm">
  <revision>1739500000</revision>
  <data type="primary">
    <checksum type="sha256">{"b" * 64}</checksum>
    <location href="repodata/b-primary.xml.gz"/>
  </data>
  <data type="updateinfo">
    <checksum type="sha256">{DIGEST}</checksum>
    <open-checksum type="sha256">{"c" * 64}</open-checksum>
    <location href="repodata/a-updateinfo.xml.gz"/>
    <timestamp>1739500000</timestamp>
  </data>
  <data type="updateinfo_zck"><checksum type="sha256">{"d" * 64}</checksum><location href="z"/></data>
</repomd>
"""


def test_the_errata_are_where_the_index_says() -> None:
    url = "https://example.org/OL9/appstream/x86_64/repodata/a-updateinfo.xml.gz"
    assert errata_in(REPOMD.encode(), URL) == ListedErrata(url, DIGEST)


@pytest.mark.parametrize(
    "place",
    [
        *(
            "/etc/passwd",
            "../../other/repodata/a.xml",
            "repodata/../../a",
            "https://evil.example/a",
            "//evil/a",
        ),
        *("file:///etc/passwd", "repodata//a", ".", "..", "a?b", "a#b", "a\\b", "", "%2e%2e/a"),
    ],
)
def test_a_place_outside_of_the_repository_is_refused(place: str) -> None:
    content = REPOMD.replace("repodata/a-updateinfo.xml.gz", place).encode()
    with pytest.raises(InputError, match=r"is no place in the repository|has no errata"):
        errata_in(content, URL)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<updates/>",
        b"<repomd/>",
        REPOMD.encode()[:-20],
        REPOMD.replace('type="updateinfo"', 'type="other"').encode(),
        REPOMD.replace(DIGEST, "A" * 64).encode(),
        REPOMD.replace(f'<checksum type="sha256">{DIGEST}', f'<checksum type="sha">{"a" * 40}').encode(),
        REPOMD.replace("<repomd ", "<!DOCTYPE repomd><repomd ", 1).encode(),
        b"<repomd>" + b"<a>" * 1000,
        b"<repomd>" + b" " * MAX_BYTES + b"</repomd>",
    ],
    ids=range(10),
)
def test_anything_else_is_refused(content: bytes) -> None:
    with pytest.raises(InputError, match=r"https://example\.org"):
        errata_in(content, URL)
