import io
import lzma

import pytest
from feedfixtures import Deb

from undercroft.advisories.feeds import packages_index
from undercroft.advisories.feeds.packages_index import ListedPackage, index_entries, listed_packages
from undercroft.advisories.records import IndexEntry
from undercroft.errors import InputError

PLAIN = Deb("openssl", "3.0.15-1~deb12u1")
OF_ANOTHER_SOURCE = Deb("libc6", "2.36-9+deb12u9", source="glibc")
REBUILT = Deb("example-lib", "1:1.0-1+b2", source="example (1:1.0-1)")


def listed(data: bytes | str) -> list[ListedPackage]:
    content = data if isinstance(data, bytes) else data.encode()
    return list(listed_packages(io.BytesIO(content), "Packages"))


INDEX = "\n".join(deb.stanza() for deb in (PLAIN, OF_ANOTHER_SOURCE, REBUILT))


def test_the_source_and_its_version_come_from_the_source_field_where_there_is_one():
    found = listed(INDEX)
    assert [(p.package, p.version, p.source, p.source_version) for p in found] == [
        ("openssl", "3.0.15-1~deb12u1", "openssl", "3.0.15-1~deb12u1"),
        ("libc6", "2.36-9+deb12u9", "glibc", "2.36-9+deb12u9"),
        ("example-lib", "1:1.0-1+b2", "example", "1:1.0-1"),
    ]
    assert (found[0].path, found[0].size_bytes) == (PLAIN.path, len(PLAIN.content))


def test_the_records_name_release_and_suite():
    (entry,) = index_entries(iter(listed(PLAIN.stanza())), "debian:12", "bookworm")
    assert entry == IndexEntry(
        "debian:12", "bookworm", "openssl", "amd64", "3.0.15-1~deb12u1", "openssl", "3.0.15-1~deb12u1"
    )


def test_stanzas_that_straddle_pieces_are_read_whole(monkeypatch):
    monkeypatch.setattr(packages_index, "_CHUNK_BYTES", 7)
    assert listed(lzma.compress(INDEX.encode())) == listed(INDEX)
    assert listed("\n\n" + INDEX + "\n\n\n") == listed(INDEX)


def test_an_empty_index_is_an_empty_suite():
    assert listed("") == []


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (INDEX.replace("Package: libc6", "Package: ../x"), "stanza 2: Package: '../x' is not a package name"),
        (INDEX.replace("Package: libc6\n", ""), "None is not a package name"),
        (INDEX.replace("Version: 2.36-9+deb12u9", "Version: a b"), "is not a version"),
        (INDEX.replace("glibc", "glibc (1.0"), r"Source is"),
        (INDEX.replace("SHA256: ", "SHA256: x"), "no valid Size and SHA256"),
        (INDEX.replace("Size: 10", "Size: -1"), "no valid Size and SHA256"),
        (INDEX.replace("pool/main/o", "../../o"), "a path that leads elsewhere"),
        (INDEX.replace("\n\n", "\n"), "has a field twice"),
        (INDEX.replace("Architecture: amd64", "Architecture: \x1b"), "is not a package name"),
    ],
)
def test_what_is_malformed_is_refused_with_its_stanza(index, message):
    with pytest.raises(InputError, match=message):
        listed(index)


def test_an_endless_stanza_is_refused(monkeypatch):
    monkeypatch.setattr(packages_index, "MAX_STANZA_BYTES", 10_000)
    monkeypatch.setattr(packages_index, "_CHUNK_BYTES", 4096)
    with pytest.raises(InputError, match="a stanza of more than 10000 bytes"):
        listed("Package: a\n" + " x\n" * 10_000)
