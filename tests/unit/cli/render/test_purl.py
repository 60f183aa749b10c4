"""Package URLs are those that the specification gives for each manager's packages."""

import pytest

from undercroft.cli.render.purl import purl_of
from undercroft.model.inventory import OsRelease, Package

ALMA = OsRelease("almalinux", "9.4", "", "AlmaLinux 9.4", "/etc/os-release")
ALPINE = OsRelease("alpine", "3.19.0", "", "Alpine Linux v3.19", "/etc/os-release")
WINDOWS = OsRelease("windows", "10.0.22631.2861", "23H2", "Windows 11 Pro", "x")


@pytest.mark.parametrize(
    ("package", "system", "purl"),
    [
        (
            Package("dpkg", "libc-bin", "2.36-9+b1", "amd64", "glibc", "2.36-9"),
            OsRelease("debian", "12", "bookworm", "", ""),
            "pkg:deb/debian/libc-bin@2.36-9%2Bb1?arch=amd64&distro=debian-12&upstream=glibc%402.36-9",
        ),
        (
            Package("rpm", "nodejs", "1:18.1-2.el9", "x86_64", "nodejs", "1:18.1-2.el9", module="nodejs:18"),
            ALMA,
            "pkg:rpm/almalinux/nodejs@18.1-2.el9?arch=x86_64&distro=almalinux-9.4&epoch=1"
            "&rpmmod=nodejs:18&upstream=nodejs-18.1-2.el9.src.rpm",
        ),
        (
            Package("apk", "ssl_client", "1.36.1-r15", "x86_64", "busybox", "1.36.1-r15"),
            ALPINE,
            "pkg:apk/alpine/ssl_client@1.36.1-r15?arch=x86_64&distro=alpine-3.19.0&upstream=busybox",
        ),
        (
            Package("pacman", "gcc-libs", "1:14-1", "x86_64", "gcc", "1:14-1"),
            OsRelease("arch", "", "", "Arch Linux", ""),
            "pkg:alpm/arch/gcc-libs@1:14-1?arch=x86_64&distro=arch&upstream=gcc",
        ),
        (Package("pypi", "Typing_Extensions", "4.9", "", "x", "4.9"), ALMA, "pkg:pypi/typing-extensions@4.9"),
        (Package("npm", "@vue/cli", "5.0.8", "", "x", "5.0.8"), ALMA, "pkg:npm/%40vue/cli@5.0.8"),
        (Package("gem", "rack", "3.0.8", "", "rack", "3.0.8"), ALMA, "pkg:gem/rack@3.0.8"),
        (
            Package("go", "golang.org/x/net", "v0.17.0", "", "x", "v0.17.0"),
            ALMA,
            "pkg:golang/golang.org/x/net@v0.17.0",
        ),
        (Package("kb", "KB5033055", "1.2", "amd64", "KB5033055", "1.2"), WINDOWS, None),
        (Package("msi", "Old Editor", "4.2", "", "Old Editor", "4.2"), WINDOWS, None),
        (Package("dpkg", "", "1", "", "", "1"), None, None),
    ],
)
def test_a_package_has_the_url_of_its_kind(package: Package, system: OsRelease, purl: str | None) -> None:
    found = purl_of(package, system)
    assert (found.to_string() if found else None) == purl
