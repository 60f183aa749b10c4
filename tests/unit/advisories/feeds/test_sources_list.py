import pytest

from undercroft.advisories.feeds.sources_list import AptSource, parse_deb822, parse_one_line
from undercroft.errors import InputError

ONE_LINE = """\
# the main mirror
deb https://mirror.example.org/debian bookworm main contrib  # and a comment
deb-src https://mirror.example.org/debian bookworm main
deb [arch=amd64,arm64 signed-by=/etc/apt/keyrings/a.asc] http://example.org/security/ bookworm-security main
deb file:///srv/flat ./
"""

DEB822 = """\
# a comment
Types: deb deb-src
URIs: https://mirror.example.org/debian
 https://second.example.org/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEZ
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: https://off.example.org
Suites: bookworm
Components: main

Types: deb-src
URIs: https://source.example.org
Suites: bookworm
Components: main
"""


def test_one_line_sources():
    assert parse_one_line(ONE_LINE, "sources.list") == [
        AptSource("https://mirror.example.org/debian", "bookworm", ("main", "contrib")),
        AptSource(
            "http://example.org/security",
            "bookworm-security",
            ("main",),
            ("amd64", "arm64"),
            "/etc/apt/keyrings/a.asc",
        ),
    ]


def test_deb822_sources_are_every_address_with_every_suite():
    found = parse_deb822(DEB822, "a.sources")
    assert [(source.base, source.suite) for source in found] == [
        ("https://mirror.example.org/debian", "bookworm"),
        ("https://mirror.example.org/debian", "bookworm-updates"),
        ("https://second.example.org/debian", "bookworm"),
        ("https://second.example.org/debian", "bookworm-updates"),
    ]
    assert found[0].signed_by.startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----\n.\nmDMEZ")


@pytest.mark.parametrize(
    "text", ["deb", "deb https://a", "rpm https://a b main", "deb [arch=x https://a b main"]
)
def test_malformed_lines_are_refused_with_their_number(text):
    with pytest.raises(InputError, match=r"sources\.list: line 2"):
        parse_one_line("#\n" + text, "sources.list")


@pytest.mark.parametrize("text", ["Types: deb\nSuites: a\n", " x\n", "no field\n"])
def test_malformed_stanzas_are_refused(text):
    with pytest.raises(InputError, match="sources"):
        parse_deb822(text, "a.sources")
