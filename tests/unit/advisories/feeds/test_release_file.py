from datetime import UTC, datetime

import pytest
from feedfixtures import NOW

from undercroft.advisories.feeds.release_file import check_release, parse_release
from undercroft.errors import InputError, StateError, UnsupportedError

DIGEST = "a" * 64
RELEASE = f"""\
Origin: Debian
Label: Debian-Security
Suite: oldstable-security
Version: 12
Codename: bookworm-security
Date: Thu, 13 Feb 2025 20:00:00 UTC
Valid-Until: Thu, 20 Feb 2025 20:00:00 UTC
Acquire-By-Hash: yes
Architectures: amd64 arm64
Components: updates/main
Description: Debian 12
 with more
MD5Sum:
 00000000000000000000000000000000 12 main/binary-amd64/Packages
SHA256:
 {DIGEST}       12 main/binary-amd64/Packages
 {DIGEST}     1234 main/binary-amd64/Packages.xz
"""


def release(**changes: str | None):
    lines = []
    for line in RELEASE.splitlines():
        name = line.partition(":")[0].lower().replace("-", "_")
        value = changes.get(name, line)
        if value is not None:
            lines.append(line if value is line else f"{line.partition(':')[0]}: {value}")
    return parse_release("\n".join(lines), "mirror")


def test_a_release_says_what_it_is_and_until_when():
    found = release()
    assert (found.release, found.name, found.serial) == (
        "debian:12",
        "bookworm-security",
        "2025-02-13T20:00:00Z",
    )
    assert found.valid_until == datetime(2025, 2, 20, 20, tzinfo=UTC)
    assert found.by_hash


def test_only_sha256_digests_count():
    files = release().files
    assert set(files) == {"main/binary-amd64/Packages", "main/binary-amd64/Packages.xz"}
    assert files["main/binary-amd64/Packages.xz"].size_bytes == 1234


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"codename": "bookworm", "version": "12.9"}, "debian:12"),
        ({"codename": "bookworm-updates", "version": "12-updates"}, "debian:12"),
        ({"codename": "sid", "version": None}, "debian:sid"),
        ({"codename": "next", "version": "16"}, "debian:16"),
        (
            {"origin": "Ubuntu", "codename": "jammy", "suite": "jammy-security", "version": "22.04"},
            "ubuntu:22.04",
        ),
    ],
)
def test_release_keys_come_from_codename_and_version(changes, key):
    assert release(**changes).release == key


@pytest.mark.parametrize(
    "changes", [{"origin": "Docker"}, {"origin": None}, {"codename": "x", "version": None}]
)
def test_archives_of_others_are_unsupported(changes):
    with pytest.raises(UnsupportedError, match="releases of Debian and Ubuntu are read"):
        release(**changes)


def accepts(asked: str, /, **changes: str | None) -> bool:
    try:
        check_release(release(**changes), asked, NOW, "mirror")
    except InputError:
        return False
    return True


def test_the_suite_must_be_the_one_that_was_asked_for():
    assert accepts("bookworm-security")
    assert accepts("oldstable-security")
    assert not accepts("bookworm")
    assert not accepts("bookworm-updates")
    assert not accepts("bullseye-security")


def test_ubuntus_pockets_are_told_by_their_suite_since_they_share_a_codename():
    ubuntu = {"origin": "Ubuntu", "label": "Ubuntu", "codename": "jammy", "version": "22.04"}
    assert accepts("jammy-security", suite="jammy-security", **ubuntu)
    assert not accepts("jammy", suite="jammy-security", **ubuntu)
    assert not accepts("jammy-security", suite="jammy", **ubuntu)


def test_old_security_suites_do_not_pass_for_the_main_suite_nor_it_for_them():
    security = {"codename": "buster", "suite": "oldoldstable", "version": "10"}
    assert accepts("buster/updates", **security)
    assert not accepts("buster", **security)
    assert not accepts("buster/updates", label="Debian", **security)


def test_an_expired_release_is_refused_with_the_day():
    with pytest.raises(StateError, match="expired at 2025-02-14T11:00:00Z"):
        check_release(
            release(valid_until="Fri, 14 Feb 2025 11:00:00 UTC"), "bookworm-security", NOW, "mirror"
        )


def test_a_release_of_the_future_is_refused():
    with pytest.raises(InputError, match="in the future"):
        check_release(release(date="Sun, 16 Feb 2025 00:00:00 UTC"), "bookworm-security", NOW, "mirror")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            RELEASE.replace("main/binary-amd64/Packages\nSHA", "x\nSHA").replace(f" {DIGEST} ", " short ", 1),
            "no digest",
        ),
        (RELEASE.replace("Packages.xz", "../../../etc/passwd"), "a path that leads elsewhere"),
        (RELEASE.replace("main/binary-amd64/Packages.xz", "/etc/passwd"), "a path that leads elsewhere"),
        (RELEASE.replace("Packages.xz", "Pack\x1bages"), "a path that leads elsewhere"),
        (RELEASE.replace("   1234", "9" * 12), "of 999999999999 bytes"),
        (RELEASE + "Suite: other\n", "a second field Suite"),
        (RELEASE.replace("Thu, 13 Feb 2025", "Someday"), "is no date"),
        (RELEASE.replace("Date:", "Dat:"), "is no date"),
        (RELEASE + "<html>", "no field of a Release file"),
    ],
)
def test_what_is_malformed_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        parse_release(text, "mirror")
