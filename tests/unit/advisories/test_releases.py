"""Which release's statements an operating system is matched with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.advisories.releases import release_key
from undercroft.errors import UnsupportedError
from undercroft.model.inventory import OsRelease


def system(ident: str, version: str, codename: str = "") -> OsRelease:
    return OsRelease(ident, version, codename, "", "/etc/os-release")


@pytest.mark.parametrize(
    ("os", "release"),
    [
        (system("debian", "12", "bookworm"), "debian:12"),
        (system("debian", "12.5"), "debian:12"),
        (system("debian", "", "forky"), "debian:14"),
        (system("debian", "trixie/sid"), "debian:13"),
        (system("debian", "trixie/sid", "trixie"), "debian:13"),
        (system("ubuntu", "22.04", "jammy"), "ubuntu:22.04"),
        (system("ubuntu", "22.04.5"), "ubuntu:22.04"),
    ],
)
def test_a_release_has_a_key(os: OsRelease, release: str) -> None:
    assert release_key(os) == release


@pytest.mark.parametrize(
    "os",
    [
        system("raspbian", "12", "bookworm"),
        system("Debian", "12"),
        system("debian", ""),
        system("debian", "", "nosuchname"),
        system("debian", "12; rm -rf"),
        system("debian", "thirteen", "trixie"),
        system("ubuntu", "", "jammy"),
        system("ubuntu", "22"),
        system("", "12"),
    ],
)
def test_anything_else_is_unsupported(os: OsRelease) -> None:
    with pytest.raises(UnsupportedError):
        release_key(os)


@given(st.sampled_from(["debian", "ubuntu", ""]), st.text(max_size=8), st.text(max_size=8))
def test_any_text_gives_a_known_form_or_is_unsupported(ident: str, version: str, codename: str) -> None:
    try:
        key = release_key(system(ident, version, codename))
    except UnsupportedError:
        return
    distribution, _, number = key.partition(":")
    assert distribution == ident
    assert number.isascii()
