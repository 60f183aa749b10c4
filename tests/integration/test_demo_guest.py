"""The demo's guest: its disk is a real one, and its snapshot survives the upgrade bit by bit."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "demo"))

import debian_guest  # noqa: E402 - lies in demo/, which is no package
import host_mirror  # noqa: E402 - the same
from debian_guest import DiskLayout, create_disk, replace_disk, require_tools, take_snapshot  # noqa: E402 - the same

from undercroft.errors import InputError, NotFoundError, OperationError  # noqa: E402 - after the path

LAYOUT = DiskLayout(root_mib=16, swap_mib=2)
DEB822 = """\
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security/
Suites: bookworm-security
Components: main
"""
ONE_LINE = """\
deb [signed-by=/etc/apt/keyrings/site.gpg] https://mirror.example/debian bookworm main
deb https://mirror.example/debian-security bookworm-security main
"""


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/hostname").write_text("before\n")
    image = tmp_path / "guest.qcow2"
    create_disk(tree, image, LAYOUT)
    take_snapshot(image, "before-upgrade")
    return image


def raw(image: Path, target: Path, *options: str) -> Path:
    subprocess.run(["qemu-img", "convert", *options, "-O", "raw", image, target], check=True)
    return target


def content(disk: Path, path: str) -> str:
    offset_bytes = 1 << 20
    done = subprocess.run(
        ["debugfs", "-R", f"cat {path}", f"{disk}?offset={offset_bytes}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_snapshot_stays_identical_when_the_current_state_is_replaced(guest: Path, tmp_path: Path) -> None:
    snapshot = ("-l", "before-upgrade")
    before = raw(guest, tmp_path / "before.raw", *snapshot)
    tree = tmp_path / "tree"
    (tree / "etc/hostname").write_text("after\n")
    replace_disk(tree, guest, LAYOUT)
    after = raw(guest, tmp_path / "after.raw", *snapshot)
    current = raw(guest, tmp_path / "current.raw")
    assert hashlib.sha256(before.read_bytes()).digest() == hashlib.sha256(after.read_bytes()).digest()
    assert (content(after, "/etc/hostname"), content(current, "/etc/hostname")) == ("before\n", "after\n")


def test_the_disk_has_a_root_filesystem_and_swap(guest: Path, tmp_path: Path) -> None:
    disk = raw(guest, tmp_path / "disk.raw")
    table = json.loads(subprocess.check_output(["sfdisk", "-J", disk]))["partitiontable"]
    assert [part["name"] for part in table["partitions"]] == ["root", "swap"]
    for part, kind in zip(table["partitions"], ["ext4", "swap"], strict=True):
        offset_bytes = str(part["start"] * 512)
        found = subprocess.check_output(
            ["blkid", "-p", "-O", offset_bytes, "-o", "value", "-s", "TYPE", disk]
        )
        assert found.decode().strip() == kind


def test_a_tool_that_fails_is_named_with_its_words_and_a_cure(tmp_path: Path) -> None:
    with pytest.raises(
        OperationError, match=r"(?s)qemu-img ended with 1; check the space on the disk:.*No such file"
    ):
        take_snapshot(tmp_path / "missing.qcow2", "x")


def test_missing_tools_are_told_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian_guest, "TOOLS", {"no-such-tool": "its-package"})
    with pytest.raises(NotFoundError, match="apt-get install its-package"):
        require_tools()


@pytest.fixture
def machine(tmp_path: Path) -> tuple[Path, Path]:
    apt = tmp_path / "apt"
    (apt / "sources.list.d").mkdir(parents=True)
    release = tmp_path / "os-release"
    release.write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    return apt, release


@pytest.mark.parametrize(("file", "text"), [("debian.sources", DEB822), ("debian.list", ONE_LINE)])
def test_the_mirror_is_the_one_of_the_machine(machine: tuple[Path, Path], file: str, text: str) -> None:
    apt, release = machine
    (apt / "sources.list.d" / file).write_text(text)
    mirror = host_mirror.host_mirror(apt, release)
    assert (mirror.codename, mirror.main.suite, mirror.security.suite) == (
        "bookworm",
        "bookworm",
        "bookworm-security",
    )
    line = host_mirror.source_line(mirror.main, apt)
    assert line.startswith("deb [signed-by=/")
    assert line.endswith("//mirror.example/debian bookworm main")


def test_a_machine_without_a_security_suite_is_told_what_to_add(machine: tuple[Path, Path]) -> None:
    apt, release = machine
    (apt / "sources.list").write_text(ONE_LINE.splitlines()[0])
    with pytest.raises(NotFoundError, match="no source has the suite bookworm-security"):
        host_mirror.host_mirror(apt, release)


def test_another_distribution_is_told_apart(machine: tuple[Path, Path]) -> None:
    apt, release = machine
    release.write_text("ID=ubuntu\nVERSION_CODENAME=jammy\n")
    with pytest.raises(NotFoundError, match="not a release of Debian"):
        host_mirror.host_mirror(apt, release)


def test_a_malformed_sources_file_is_named(machine: tuple[Path, Path]) -> None:
    apt, release = machine
    (apt / "sources.list").write_text("deb what\n")
    with pytest.raises(InputError, match=r"sources\.list: line 1"):
        host_mirror.host_mirror(apt, release)


def test_a_key_inside_a_source_becomes_a_file(machine: tuple[Path, Path], tmp_path: Path) -> None:
    apt, release = machine
    key = "\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDME\n -----END PGP PUBLIC KEY BLOCK-----"
    (apt / "sources.list.d/a.sources").write_text(
        DEB822.replace(" /usr/share/keyrings/debian-archive-keyring.gpg", key)
    )
    line = host_mirror.source_line(host_mirror.host_mirror(apt, release).main, tmp_path)
    path = Path(line.partition("[signed-by=")[2].partition("]")[0])
    assert path.read_text().splitlines() == [
        "-----BEGIN PGP PUBLIC KEY BLOCK-----",
        "",
        "mDME",
        "-----END PGP PUBLIC KEY BLOCK-----",
    ]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_whole_demo_shows_what_a_revert_brings_back() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "demo/run.py"], capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Going back to before-upgrade brings back" in done.stdout
    assert "CVE-" in done.stdout
