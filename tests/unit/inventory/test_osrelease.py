"""The operating system is named by os-release or what came before it."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memorymachines import Broken, Link, tree_of

from undercroft.inventory.osrelease import parse_assignments, read_release
from undercroft.model.inventory import OsRelease

BOOKWORM = b"""PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME="Debian GNU/Linux"
VERSION_ID="12"
VERSION="12 (bookworm)"
VERSION_CODENAME=bookworm
ID=debian
HOME_URL="https://www.debian.org/"
"""
JAMMY = b"""PRETTY_NAME="Ubuntu 22.04.3 LTS"
NAME="Ubuntu"
VERSION_ID="22.04"
VERSION="22.04.3 LTS (Jammy Jellyfish)"
VERSION_CODENAME=jammy
ID=ubuntu
ID_LIKE=debian
UBUNTU_CODENAME=jammy
"""


def os_of(**files: bytes | Link | Broken) -> OsRelease | None:
    return read_release(tree_of(files)).os


def test_debian_and_ubuntu_are_named() -> None:
    bookworm = os_of(**{"etc/os-release": Link(b"../usr/lib/os-release"), "usr/lib/os-release": BOOKWORM})
    assert bookworm == OsRelease(
        "debian", "12", "bookworm", "Debian GNU/Linux 12 (bookworm)", "/etc/os-release"
    )
    jammy = read_release(tree_of({"usr/lib/os-release": JAMMY}))
    assert jammy.os == OsRelease("ubuntu", "22.04", "jammy", "Ubuntu 22.04.3 LTS", "/usr/lib/os-release")
    assert jammy.families == {"ubuntu", "debian"}


@pytest.mark.parametrize(
    ("text", "version", "codename"),
    [
        (b'ID=debian\nVERSION_ID="7"\nVERSION="7 (wheezy)"\n', "7", "wheezy"),
        (b'ID=ubuntu\nVERSION_ID="14.04"\nVERSION="14.04.6 LTS, Trusty Tahr"\n', "14.04", "trusty"),
        (b'ID=debian\nPRETTY_NAME="Debian GNU/Linux trixie/sid"\nVERSION_CODENAME=trixie\n', "", "trixie"),
        (b"ID='debian'\nVERSION_ID='12'", "12", ""),
    ],
)
def test_older_and_unreleased_systems_are_named(text: bytes, version: str, codename: str) -> None:
    found = os_of(**{"etc/os-release": text})
    assert found is not None
    assert (found.version, found.codename) == (version, codename)


@pytest.mark.parametrize(
    ("path", "text", "ident", "version"),
    [
        (
            "etc/lsb-release",
            b"DISTRIB_ID=Ubuntu\nDISTRIB_RELEASE=12.04\nDISTRIB_CODENAME=precise\n",
            "ubuntu",
            "12.04",
        ),
        ("etc/debian_version", b"12.5\n", "debian", "12"),
        ("etc/debian_version", b"trixie/sid\n", "debian", ""),
        ("etc/redhat-release", b"CentOS Linux release 7.9.2009 (Core)\n", "centos", "7.9.2009"),
        ("etc/redhat-release", b"Red Hat Enterprise Linux Server release 6.10 (Santiago)\n", "rhel", "6.10"),
        ("etc/alpine-release", b"3.19.1\n", "alpine", "3.19.1"),
    ],
)
def test_fallbacks_name_the_system(path: str, text: bytes, ident: str, version: str) -> None:
    found = os_of(**{path: text})
    assert found is not None
    assert (found.ident, found.version, found.source) == (ident, version, f"/{path}")


def test_a_release_file_that_cannot_be_read_is_a_problem_and_the_next_one_counts() -> None:
    release = read_release(tree_of({"etc/os-release": Broken(), "etc/debian_version": b"11.2\n"}))
    assert release.os is not None
    assert release.os.version == "11"
    assert release.problems[0].startswith("the release file could not be read: ")


def test_a_system_without_a_name_is_a_problem() -> None:
    release = read_release(tree_of({"etc/lsb-release": b"# nothing\n"}))
    assert release.os is None
    assert release.problems == ("no release file names the operating system",)


def test_quotes_are_read_as_a_shell_reads_them() -> None:
    text = rb"""A="a \"b\" \$c \\ \`d\`"
B='single "x" \n'
C=plain
D=
 E="spaces around"
# F=comment
G="unterminated
H=a\ b
not an assignment
I="x" # trailing
"""
    values = parse_assignments(text)
    assert values["A"] == 'a "b" $c \\ `d`'
    assert values["B"] == 'single "x" \\n'
    assert (values["C"], values["D"], values["E"], values["H"]) == ("plain", "", "spaces around", "a b")
    assert "F" not in values


@given(st.text("abc \"'$\\`xyz", max_size=30))
def test_what_a_shell_quotes_is_read_back(value: str) -> None:
    assert parse_assignments(f"A={shlex.quote(value)}\n".encode()).get("A") == value or "'" in value


@given(st.binary(max_size=300))
def test_any_bytes_give_a_release_or_none(untrusted: bytes) -> None:
    for path in ("etc/os-release", "etc/lsb-release", "etc/debian_version", "etc/redhat-release"):
        read_release(tree_of({path: untrusted}))
