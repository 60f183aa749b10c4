"""Packages of languages, snaps and flatpaks: those that are there, and none that is listed already."""

import contextlib
import importlib.metadata
import json
import re
import sys
import tracemalloc
from collections.abc import Set
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memoryfs import MemoryFileSystem
from memorymachines import Broken, File, Files, Link, machine_of, tree_of, uuid_of

from undercroft.errors import InputError
from undercroft.inventory.collect import collect
from undercroft.inventory.database import Owners
from undercroft.inventory.languages import Languages, bundles, ecosystems, finding, golang, read_languages
from undercroft.sandbox.server import CODECS

METADATA = b"Metadata-Version: 2.1\nName: %s\nVersion: %s\nSummary: x\n\nName: not-this\n"
SITE = "usr/local/lib/python3.11/dist-packages"
GO_PROGRAMS = [Path("/usr/bin/etcd"), Path("/usr/local/bin/terraform"), Path("/usr/local/bin/docker")]


def listed(found: Languages) -> list[tuple[str, str, str]]:
    return [(package.manager, package.name, package.version) for package in found.packages]


def test_this_environments_packages_are_those_that_python_itself_lists() -> None:
    files: dict[str | bytes, bytes] = {}
    told = set()
    for found in importlib.metadata.distributions(
        path=[path for path in sys.path if "site-packages" in path]
    ):
        folder = Path(str(found.locate_file(""))) / str(found.metadata["Name"])
        text = found.read_text("METADATA")
        if text is not None:
            files[f"{SITE}/{folder.name}-{found.version}.dist-info/METADATA"] = text.encode()
            told.add(("pypi", found.metadata["Name"], found.version))
    assert len(told) > 10
    assert set(listed(read_languages(tree_of(files)))) == told


def test_python_packages_are_found_in_all_folders_once_and_debians_own_is_left_out() -> None:
    files: Files = {
        f"{SITE}/a-1.dist-info/METADATA": METADATA % (b"a", b"1"),
        f"{SITE}/b-2.egg-info/PKG-INFO": METADATA % (b"b", b"2"),
        f"{SITE}/c-3.egg-info": METADATA % (b"c", b"3"),
        "usr/lib/python3.9/site-packages/d-4.dist-info/METADATA": METADATA % (b"d", b"4"),
        "usr/lib64": Link(b"lib"),
        "opt/app/venv/lib/python3.12/site-packages/e-5.dist-info/METADATA": METADATA % (b"e", b"5"),
        "usr/lib/python3/dist-packages/own-1.dist-info/METADATA": METADATA % (b"own", b"1"),
    }
    asked: list[Set[bytes]] = []

    def find_owners(wanted: Set[bytes]) -> Owners:
        asked.append(wanted)
        return Owners()

    found = read_languages(tree_of(files), find_owners)
    assert listed(found) == [("pypi", name, str(number)) for number, name in enumerate("abcde", 1)]
    assert found.notes == ()
    assert not [path for wanted in asked for path in wanted if b"own-1" in path]


def test_what_a_package_of_the_systems_own_manager_brought_is_not_listed_twice() -> None:
    path = "opt/app/lib/python3.9/site-packages/a-1.dist-info/METADATA"
    files: Files = {
        "etc/os-release": b"ID=debian\n",
        "etc/fstab": f"UUID={uuid_of(1)} / ext4\n".encode(),
        "var/lib/dpkg/status": b"Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n\n",
        path: METADATA % (b"a", b"1"),
        path.replace("a-1", "b-1"): METADATA % (b"b", b"1"),
    }
    owned = {**files, "var/lib/dpkg/info/a.list": f"/{path}\n".encode()}
    for tree, expected in ((owned, ["a", "b"]), (files, ["a", "a", "b"])):
        found = collect(machine_of(vda=MemoryFileSystem(tree, uuid=uuid_of(1))))
        assert sorted(package.name for package in found.packages) == expected
        assert found.coverage.complete


def test_node_packages_are_listed_with_scopes_and_with_what_they_bring() -> None:
    base = "usr/local/lib/node_modules"

    def named(name: str, version: str) -> bytes:
        return json.dumps({"name": name, "version": version}).encode()

    files: Files = {
        f"{base}/npm/package.json": named("npm", "10.2.4"),
        f"{base}/npm/node_modules/semver/package.json": named("semver", "7.5.4"),
        f"{base}/npm/node_modules/@npmcli/fs/package.json": named("@npmcli/fs", "3.1.0"),
        f"{base}/@vue/cli/package.json": named("@vue/cli", "5.0.8"),
        f"{base}/.bin/x": b"",
        f"{base}/nothing/readme": b"",
    }
    found = read_languages(tree_of(files))
    assert listed(found) == [
        ("npm", "@npmcli/fs", "3.1.0"),
        ("npm", "@vue/cli", "5.0.8"),
        ("npm", "npm", "10.2.4"),
        ("npm", "semver", "7.5.4"),
    ]
    assert found.notes == ()


def test_gems_are_listed_by_the_names_of_their_specifications() -> None:
    files: Files = {
        "var/lib/gems/3.1.0/specifications/rack-3.0.8.gemspec": b"",
        "var/lib/gems/3.1.0/specifications/nokogiri-1.15.4-x86_64-linux.gemspec": b"",
        "usr/local/lib/ruby/gems/3.2.0/specifications/default/net-http-0.3.2.gemspec": b"",
        "usr/local/lib/ruby/gems/3.2.0/specifications/odd.gemspec": b"",
    }
    found = read_languages(tree_of(files))
    assert listed(found) == [
        ("gem", "net-http", "0.3.2"),
        ("gem", "nokogiri", "1.15.4"),
        ("gem", "rack", "3.0.8"),
    ]
    assert "the file's name has no version" in found.notes[0]


@pytest.mark.parametrize("program", [path for path in GO_PROGRAMS if path.exists()], ids=str)
def test_the_modules_of_a_real_go_program_are_those_that_stand_in_it(program: Path) -> None:
    content = program.read_bytes()
    told = {
        (name.decode(), version.decode())
        for name, version in re.findall(rb"\n(?:dep|mod)\t([^\t\n]+)\t([^\t\n]+)", content)
        if version != b"(devel)"
    }
    replaced = {
        (n.decode(), v.decode()) for n, v in re.findall(rb"\ndep\t([^\t\n]+)\t([^\t\n]+)[^\n]*\n=>", content)
    }
    replacing = {
        (name.decode(), version.decode())
        for name, version in re.findall(rb"\n=>\t([^\t\n]+)\t([^\t\n]+)", content)
        if version != b"(devel)"
    }
    found = read_languages(tree_of({"usr/local/bin/x": File(content, 0o755)}), unowned=[b"/usr/local/bin/x"])
    packages = {(package.name, package.version) for package in found.packages}
    assert ("stdlib" in {name for name, _ in packages}) is True
    assert {pair for pair in packages if pair[0] != "stdlib"} == (told - replaced) | replacing


def go_program(version: bytes, modules: bytes, flags: int = 2) -> bytes:
    """The least ELF with a section .go.buildinfo."""

    def text(content: bytes) -> bytes:
        length = len(content)
        head = b""
        while length >= 0x80:
            head += bytes([length & 0x7F | 0x80])
            length >>= 7
        return head + bytes([length]) + content

    info = (
        (golang.MAGIC + bytes([8, flags])).ljust(32, b"\0")
        + text(version)
        + text(b"s" * 16 + modules + b"s" * 16)
    )
    names = b"\0.shstrtab\0.go.buildinfo\0"
    table = 64 + len(info) + len(names)
    head = b"\x7fELF\x02\x01\x01".ljust(40, b"\0") + table.to_bytes(8, "little") + bytes(10)
    head += b"".join(number.to_bytes(2, "little") for number in (64, 3, 1))
    sections = [(0, 0, 0, 0), (1, 3, 64 + len(info), len(names)), (11, 1, 64, len(info))]
    rows = (
        golang._SECTION_HEADER.pack(name, kind, 0, 0, at, size, 0, 0, 0, 0)
        for name, kind, at, size in sections
    )
    return head + info + names + b"".join(rows)


MODULES = (
    b"path\tcmd/x\nmod\texample.org/x\t(devel)\t\n"
    b"dep\ta.org/b\tv1.2.3\th1:x\ndep\ta.org/c\tv1.0.0\n=>\ta.org/d\tv2.0.0\th1:y\n"
)


def test_a_go_programs_modules_and_standard_library_are_listed_with_replacements() -> None:
    tree = tree_of(
        {"opt/x": go_program(b"go1.21.5 X:boring", MODULES), "opt/old": go_program(b"", b"", flags=0)}
    )
    found = read_languages(tree, unowned=[b"/opt/x", b"/opt/old"])
    assert listed(found) == [
        ("go", "a.org/b", "v1.2.3"),
        ("go", "a.org/d", "v2.0.0"),
        ("go", "stdlib", "1.21.5"),
    ]
    assert found.notes == (
        "Go programs: /opt/old could not be read: go: build information from before Go 1.18 is not supported",
    )


def test_snaps_are_listed_with_the_revision_that_is_in_use_and_flatpaks_with_their_branch() -> None:
    files: Files = {
        "var/lib/snapd/snaps/core20_1974.snap": b"",
        "var/lib/snapd/snaps/core20_2015.snap": b"",
        "var/lib/snapd/snaps/lxd_24322.snap": b"",
        "var/lib/snapd/state.json": json.dumps({"data": {"snaps": {"core20": {"current": "2015"}}}}).encode(),
        "var/lib/flatpak/app/org.gimp.GIMP/x86_64/stable/active": Link(b"0123abcd"),
        "var/lib/flatpak/app/org.gimp.GIMP/current": Link(b"x86_64/stable"),
    }
    found = read_languages(tree_of(files))
    assert [(one.name, one.version, one.status, one.source_version) for one in found.packages] == [
        ("core20", "1974", "not in use", "1974"),
        ("core20", "2015", "installed", "2015"),
        ("lxd", "24322", "installed", "24322"),
        ("org.gimp.GIMP", "stable", "installed", "0123abcd"),
    ]


@pytest.mark.parametrize(
    ("path", "content", "note"),
    [
        (f"{SITE}/a-1.dist-info/METADATA", Broken(), "Python packages: /usr/local"),
        (f"{SITE}/a-1.dist-info/METADATA", b"Name: a\n", "no metadata of a Python package"),
        (f"{SITE}/a-1.dist-info/METADATA", METADATA % (b"a\x1b[31m", b"1"), "pypi: the name"),
        ("usr/lib/node_modules/a/package.json", b"[" * 100_000, "package.json is no JSON"),
        ("usr/lib/node_modules/a/package.json", b'{"name": {}}', "package.json names no package"),
        (
            "usr/lib/node_modules/a/package.json",
            b'{"version": ' + b"9" * 9999 + b"}",
            "package.json is no JSON",
        ),
        ("var/lib/snapd/snaps/x.snap", b"", "the file's name has no revision"),
        ("var/lib/flatpak/app/a/b/c/active", b"", "is not a symlink"),
    ],
)
def test_what_cannot_be_read_is_a_note(path: str, content: bytes | Broken, note: str) -> None:
    found = read_languages(tree_of({path: content}))
    assert found.packages == ()
    assert note in found.notes[0]


def test_limits_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    files: Files = {
        f"{SITE}/p{number}-1.dist-info/METADATA": METADATA % (b"p%d" % number, b"1") for number in range(9)
    }
    monkeypatch.setattr(ecosystems, "MAX_CANDIDATES", 5)
    found = read_languages(tree_of(files))
    assert len(found.packages) == 5
    told = "Python packages: more folders or files than the limits allow; the rest is not listed"
    assert found.notes == (told,)
    monkeypatch.setattr(finding, "MAX_ENTRIES", 2)
    assert told in read_languages(tree_of(files)).notes


@given(st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_a_damaged_go_program_is_read_or_told(at: int, damage: bytes) -> None:
    program = go_program(b"go1.21.5", MODULES)
    at = min(at, len(program) - len(damage))
    tree = tree_of({"opt/x": program[:at] + damage + program[at + len(damage) :]})
    with contextlib.suppress(InputError):
        golang._read(tree, b"/opt/x")


def test_who_owns_what_is_asked_once_and_of_nothing_that_no_package_brings() -> None:
    files: Files = {
        f"{SITE}/a-1.dist-info/METADATA": METADATA % (b"a", b"1"),
        "usr/lib/node_modules/b/package.json": b'{"name": "b", "version": "1"}',
        "var/lib/gems/3.1.0/specifications/c-1.gemspec": b"",
        "var/lib/snapd/snaps/d_1.snap": b"",
        "opt/x": go_program(b"go1.21.5", MODULES),
    }
    asked: list[Set[bytes]] = []

    def find_owners(wanted: Set[bytes]) -> Owners:
        asked.append(wanted)
        return Owners()

    found = read_languages(tree_of(files), find_owners, [b"/opt/x"])
    assert {package.manager for package in found.packages} == {"pypi", "npm", "gem", "go", "snap"}
    assert [len(wanted) for wanted in asked] == [3]
    asked.clear()
    assert listed(read_languages(tree_of({"var/lib/snapd/snaps/d_1.snap": b""}), find_owners)) == [
        ("snap", "d", "1")
    ]
    assert asked == []


def test_a_files_first_bytes_ask_for_no_codec() -> None:
    base = "usr/local/lib/node_modules"
    said = '{"name": "a", "version": "1"}'
    files: Files = {
        f"{base}/a/package.json": b"\xef\xbb\xbf" + said.encode(),
        f"{base}/b/package.json": said.encode("utf-32-be"),
        f"{base}/c/package.json": said.encode("utf-32-le"),
    }
    found = read_languages(tree_of(files))
    assert listed(found) == [("npm", "a", "1")]
    assert len(found.notes) == 2
    for content in files.values():
        assert isinstance(content, bytes)
        assert json.detect_encoding(content) not in CODECS, "the control: json itself would load it"


def test_links_to_one_large_file_count_each_time_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecosystems, "MAX_TOTAL_BYTES", 10_000)
    base = "usr/local/lib/node_modules"
    large = json.dumps({"name": "a", "version": "1", "description": "x" * 4000}).encode()
    files: Files = {"srv/large": large}
    for number in range(9):
        files[f"{base}/p{number}/package.json"] = Link(b"/srv/large")
    found = read_languages(tree_of(files))
    assert listed(found) == [("npm", "a", "1")]
    assert found.notes == ("Node packages: more than 10000 bytes; the rest is not listed",)


def test_what_is_known_by_its_name_alone_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ecosystems, "MAX_TOTAL_BYTES", 10)
    snaps: Files = {f"var/lib/snapd/snaps/s{number}_1.snap": b"x" * 100 for number in range(9)}
    found = read_languages(tree_of(snaps))
    assert len(found.packages) == 9
    assert found.notes == ()


def test_folders_that_may_lead_to_packages_are_looked_at_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finding, "MAX_LOOKED_AT", 20)
    found = read_languages(tree_of({f"opt/{number}": b"" for number in range(50)}))
    assert any(note.startswith("Node packages: more folders or files than") for note in found.notes)


def test_a_state_of_snapd_that_is_all_brackets_stays_within_memory() -> None:
    part = 8
    hostile = b"[" + b"[]," * (bundles.MAX_STATE_BYTES // part // 3 - 2) + b"[]]"
    tracemalloc.start()
    try:
        found = read_languages(
            tree_of({"var/lib/snapd/snaps/a_1.snap": b"", "var/lib/snapd/state.json": hostile})
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert listed(found) == [("snap", "a", "1")]
    assert "is not as snapd writes it" in found.notes[0]
    assert peak * part < 200 << 20
