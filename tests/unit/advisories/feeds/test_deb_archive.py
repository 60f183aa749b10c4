import gzip
import io
import lzma
import tarfile

import pytest
from feedfixtures import build_deb, changelog_text, deb_with_changelog

from undercroft.advisories.feeds import deb_archive
from undercroft.advisories.feeds.deb_archive import Documentation, documentation
from undercroft.errors import InputError, UnsupportedError

TEXT = changelog_text("example", "1.0-2")
DOC = "usr/share/doc/example"


def read(deb: bytes, package: str = "example") -> bytes | None:
    return documentation(io.BytesIO(deb), package, "example.deb").changelog


def ar(members: dict[str, bytes]) -> bytes:
    parts = [b"!<arch>\n"]
    for name, data in members.items():
        parts.append(f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode())
        parts.append(data + b"\n" * (len(data) % 2))
    return b"".join(parts)


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.GNU_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def deb(data_tar: bytes, name: str = "data.tar") -> bytes:
    return ar({"debian-binary": b"2.0\n", "control.tar.xz": b"x", name: data_tar})


GOOD_TAR = tar((tarfile.TarInfo(f"./{DOC}/changelog.Debian.gz"), gzip.compress(TEXT)))


@pytest.mark.parametrize("compress", ["xz", "gzip", "zstd", "none"])
def test_a_package_that_dpkg_deb_built_gives_its_changelog(tmp_path, compress):
    assert read(deb_with_changelog(tmp_path, "example", "example", "1.0-2", compress)) == TEXT


def test_a_native_packages_changelog_goes_by_the_shorter_name(tmp_path):
    native = build_deb(tmp_path, "example", {f"{DOC}/changelog.gz": gzip.compress(TEXT)})
    assert read(native) == TEXT
    both = {
        f"{DOC}/changelog.gz": gzip.compress(b"upstream"),
        f"{DOC}/changelog.Debian.gz": gzip.compress(TEXT),
    }
    assert read(build_deb(tmp_path, "example", both)) == TEXT


def test_a_documentation_folder_that_is_a_symlink_means_another_package(tmp_path):
    linked = build_deb(tmp_path, "example", {"usr/bin/x": b"x"}, [(DOC, "example-common")])
    assert documentation(io.BytesIO(linked), "example", "a.deb") == Documentation(None, "example-common")


def test_long_paths_before_it_are_skipped(tmp_path):
    deep = f"usr/lib/{'a' * 90}/{'b' * 90}/{'c' * 90}"
    package = build_deb(
        tmp_path, "example", {deep: b"x" * 1000, f"{DOC}/changelog.Debian.gz": gzip.compress(TEXT)}
    )
    assert read(package) == TEXT


def test_ustar_prefixes_are_understood():
    name = f"./{DOC}/changelog.Debian.gz"
    member = tarfile.TarInfo(name)
    data = bytearray(tar((member, gzip.compress(TEXT)), form=tarfile.USTAR_FORMAT))
    assert read(deb(bytes(data))) == TEXT


def test_nothing_is_written_and_no_path_is_followed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    link = tarfile.TarInfo(f"./{DOC}/changelog.Debian.gz")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    outside = tarfile.TarInfo("../../outside")
    assert read(deb(tar((link, b""), (outside, b"x")))) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is no ar archive"),
        (b"PK\x03\x04" + bytes(100), "it is no ar archive"),
        (ar({"debian-binary": b"2.0\n"}), "it has no data.tar"),
        (ar({"debian-binary": b"2.0\n"}).replace(b"`\n", b"xx"), "it has no data.tar"),
        (deb(GOOD_TAR)[:400], "cut off"),
        (deb(GOOD_TAR[:700]), "cut off"),
        (deb(b"\xff" * 512), "a malformed tar header|checksum is wrong|8 GiB"),
        (deb(GOOD_TAR.replace(b"usr/share", b"usr/sbare")), "a header's checksum is wrong"),
        (deb(lzma.compress(GOOD_TAR)[:60], "data.tar.xz"), "damaged|cut off"),
        (deb(tar((tarfile.TarInfo(f"./{DOC}/changelog.Debian.gz"), b"no gzip" * 9))), ""),
    ],
)
def test_what_is_malformed_is_refused(data, message):
    if not message:
        assert read(data) == b"no gzip" * 9  # not compressed: the changelog's parser judges it
        return
    with pytest.raises(InputError, match=message):
        read(data)


def test_other_compressions_are_unsupported():
    with pytest.raises(UnsupportedError, match=r"data\.tar\.lzma"):
        read(deb(b"x", "data.tar.lzma"))


def test_limits_hold_on_content_names_members_and_the_changelog(monkeypatch):
    bomb = deb(lzma.compress(tar((tarfile.TarInfo("./big"), bytes(4 << 20)))), "data.tar.xz")
    assert read(bomb) is None  # without the limit it is read to its end
    monkeypatch.setattr(deb_archive, "MAX_DATA_BYTES", 1 << 20)
    with pytest.raises(InputError, match="more than the limit"):
        read(bomb)
    monkeypatch.setattr(deb_archive, "MAX_MEMBERS", 3)
    with pytest.raises(InputError, match="more than 3 files"):
        read(deb(tar(*[(tarfile.TarInfo(f"./{number}"), b"") for number in range(5)])))
    long = tarfile.TarInfo("./" + "n" * 5000)
    with pytest.raises(InputError, match="a file name of"):
        read(deb(tar((long, b""))))
    monkeypatch.setattr(deb_archive, "MAX_CHANGELOG_BYTES", 50)
    with pytest.raises(InputError, match="changelog"):
        read(deb(GOOD_TAR))
    huge = tarfile.TarInfo("./huge")
    huge.size = 1 << 40
    with pytest.raises(InputError, match="8 GiB"):
        read(deb(huge.tobuf(tarfile.GNU_FORMAT)))


def test_every_truncation_of_a_real_package_is_refused(tmp_path):
    whole = deb_with_changelog(tmp_path, "example", "example", "1.0-2")
    for length in range(0, len(whole) - 60, 7):
        try:
            assert read(whole[:length]) == TEXT
        except InputError:
            continue
