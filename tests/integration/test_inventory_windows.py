"""Windows by its registry: hives by hivexregedit, on an NTFS by mkntfs, logs after the format."""

import json
import os
import re
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import databasemutants
import hives
import pytest
from diskimages import MIB, make_raw, opened, run, wrap_gpt
from memorymachines import tree_of
from readerhook import confined

from undercroft.disks import tsk
from undercroft.disks.filesystem import FileKind
from undercroft.disks.machine import open_machine
from undercroft.disks.source import BytesSource
from undercroft.disks.tree import GuestTree
from undercroft.disks.tsk.binding import constants
from undercroft.disks.tsk.filesystem import TskFileSystem
from undercroft.errors import InputError
from undercroft.inventory import windows
from undercroft.inventory.collect import collect
from undercroft.inventory.windows import hive as hive_module
from undercroft.inventory.windows import hivelog, system
from undercroft.inventory.windows.hive import Hive, Key
from undercroft.model.inventory import OsRelease, Package

MUTANTS = int(os.environ.get("UNDERCROFT_DATABASE_MUTANTS", "16"))
"""Of the hive; `make soak` may ask for more."""

CONFIG = "Windows/System32/config"
SOFTWARE = f"{CONFIG}/SOFTWARE"
RELEASE = OsRelease("windows", "10.0.22631.2861", "23H2", "Windows 11 Pro", f"/{SOFTWARE}")
INSTALLED = (
    Package("msi", "7-Zip 23.01 (x64)", "23.01", "", "7-Zip 23.01 (x64)", "23.01", origin="Igor Pavlov"),
    Package("kb", "KB5033055", "22621.2851.1.1", "amd64", "KB5033055", "22621.2851.1.1"),
    Package("msi", "Old Editor", "4.2", "x86", "Old Editor", "4.2"),
    Package("kb", "RollupFix", "22621.2861.1.10", "amd64", "RollupFix", "22621.2861.1.10"),
)


@pytest.fixture(scope="module")
def software(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return hives.software(tmp_path_factory.mktemp("hive") / "SOFTWARE").read_bytes()


def tree_with(content: bytes, **logs: bytes) -> GuestTree:
    return tree_of({SOFTWARE: content} | {f"{SOFTWARE}.{name}": log for name, log in logs.items()})


def dump(hive: Hive, key: Key, path: str = "") -> dict[str, dict[str, object]]:
    """Every key with its values, by a walk that trusts the hive."""
    found: dict[str, dict[str, object]] = {path: dict(hive.values(key))}
    for below in hive.subkeys(key):
        found |= dump(hive, below, f"{path}\\{below.name}")
    return found


def exported(path: Path) -> dict[str, dict[str, object]]:
    """Every key with its values as hivexregedit writes them."""
    text = run("hivexregedit", "--export", "--unsafe-printable-strings", path, "\\")
    found: dict[str, dict[str, object]] = {}
    key = ""
    for line in text.splitlines():
        if line.startswith("["):
            key = line[1:-1].rstrip("\\")
            found[key] = {}
        elif "=" in line:
            name, _, value = line.partition("=")
            name = name.strip('"').lower()
            if value.startswith("dword:"):
                found[key][name] = int(value[6:], 16)
            elif value.startswith("str"):
                found[key][name] = value.partition(":")[2].strip('"').replace("\\\\", "\\")
    return found


def test_every_key_and_value_is_what_hivexregedit_exports(tmp_path: Path) -> None:
    many = {f"Many\\key{number:04}": {"value": f"text {number}", "number": number} for number in range(1500)}
    long = {"Long": {"text": "x" * 30_000, "empty": ""}}
    path = hives.software(tmp_path / "SOFTWARE", hives.keys_of({**many, **long}))
    hive = Hive(tree_with(path.read_bytes()), f"/{SOFTWARE}".encode())
    root = hive.key("")
    assert root is not None
    told = exported(path)
    assert dump(hive, root) == told
    assert len(told) > 1500
    assert told["\\Long"]["text"] == "x" * 30_000


def test_version_updates_and_programs_are_told_in_both_views(software: bytes) -> None:
    tree = tree_with(software)
    assert windows.read_release(tree) == RELEASE
    database = windows.read_database(tree)
    assert database.packages == INSTALLED
    assert database.problems == ()


def changed(software: bytes, folder: Path) -> bytes:
    """The hive after an update that the machine died in the middle of."""
    path = folder / "SOFTWARE"
    path.write_bytes(software)
    key = {"Microsoft\\Windows NT\\CurrentVersion": {"UBR": 3007}}
    more = {f"Microsoft\\New\\k{number}": {"v": number} for number in range(300)}
    hives.merge(path, hives.keys_of({**key, **more}))
    return path.read_bytes()


def test_a_log_is_applied_in_memory_whichever_of_the_two_holds_it(software: bytes, tmp_path: Path) -> None:
    hive, log = hives.dirty(software, changed(software, tmp_path))
    for name in ("LOG1", "LOG2"):
        tree = tree_with(hive, **{name: log})
        found = windows.read_release(tree)
        assert found is not None
        assert found.version == "10.0.22631.3007"
        assert windows.read_database(tree).problems == ()
    (problem,) = windows.read_database(tree_with(hive)).problems
    assert problem.endswith("was not finished and is not replayed (no log that fits lies beside it)")


def test_a_log_with_a_bad_hash_or_of_an_older_write_is_not_applied(software: bytes, tmp_path: Path) -> None:
    after = changed(software, tmp_path)
    hive, log = hives.dirty(software, after)
    broken = bytearray(log)
    broken[-600] ^= 1
    older = hives.dirty(software, after, sequence=3)[1]
    for untrusted in (bytes(broken), older, log[:512], b""):
        tree = tree_with(hive, LOG1=untrusted)
        found = windows.read_release(tree)
        assert found is not None
        assert found.version == RELEASE.version
        assert "is not replayed" in windows.read_database(tree).problems[0]


def test_a_log_of_a_clean_hive_is_left_alone(software: bytes, tmp_path: Path) -> None:
    _, log = hives.dirty(software, changed(software, tmp_path), sequence=1)
    assert windows.read_release(tree_with(software, LOG1=log)) == RELEASE


@pytest.mark.parametrize(
    ("seed", "data", "digest"),
    [
        (0x004FB61A001BDBCC, "", 0x30ED35C100CD3C7D),
        (0x004FB61A001BDBCC, "af", 0x48E73FC77D75DDC1),
        (0x004FB61A001BDBCC, "e70f", 0xB5F6E1FC485DBFF8),
    ],
)
def test_the_hash_is_marvin32_by_its_published_vectors(
    monkeypatch: pytest.MonkeyPatch, seed: int, data: str, digest: int
) -> None:
    monkeypatch.setattr(hivelog, "_SEED", seed)
    assert hivelog.marvin32(bytes.fromhex(data)) == digest


def test_a_name_that_its_parents_hash_does_not_fit_is_told(software: bytes) -> None:
    forged = software.replace(b"Package_for_KB5029921", b"Package_for_KB5029922")
    assert forged != software
    (problem,) = windows.read_database(tree_with(forged)).problems
    assert "its parent's list has another name's hash" in problem


@pytest.mark.parametrize(
    ("offset", "value", "told"),
    [
        (0, b"rege", "does not begin as a hive does"),
        (20, struct.pack("<I", 9), "version 9.5"),
        (36, struct.pack("<I", 0xFFFFFFF8), "outside of the bins"),
        (40, struct.pack("<I", 0), "outside of the bins"),
    ],
)
def test_a_malformed_base_block_is_told(software: bytes, offset: int, value: bytes, told: str) -> None:
    base = hives.with_checksum(software[:offset] + value + software[offset + len(value) : 512])
    tree = tree_with(base + software[512:])
    with pytest.raises(InputError, match=told):
        windows.read_release(tree)
    assert told in windows.read_database(tree).problems[0]


@pytest.fixture(scope="module")
def disk(software: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT disk with an NTFS that holds the hives, as deep as Windows has them."""
    pytest.importorskip("pytsk3", reason="needs pytsk3, the extra `windows`")
    folder = tmp_path_factory.mktemp("disk")
    return wrap_gpt(folder / "disk.raw", [windows_volume(folder, software)])


def windows_volume(folder: Path, software: bytes) -> Path:
    (folder / "SOFTWARE").write_bytes(software)
    hives.fill(folder / "SYSTEM", hives.keys_of(hives.SYSTEM))
    image = make_raw(folder / "c.img", 24 * MIB)
    run("mkntfs", "-q", "-F", "-L", "Windows", image)
    mount_and_copy(image, folder)
    return image


def mount_and_copy(image: Path, folder: Path) -> None:
    """Make the folders and copy the hives through ntfs-3g, in a mount namespace of its own."""
    if not Path("/dev/fuse").exists():
        pytest.skip("needs /dev/fuse")
    point = folder / "mnt"
    point.mkdir()
    script = f"""
set -e
ntfs-3g -o no_detach '{image}' '{point}' & pid=$!
trap 'umount -l "{point}"; kill $pid' EXIT
for i in $(seq 100); do mountpoint -q '{point}' && break; sleep 0.1; done
mountpoint -q '{point}'
mkdir -p '{point}/Windows/System32/config' '{point}/Many'
cp '{folder}/SOFTWARE' '{folder}/SYSTEM' '{point}/Windows/System32/config/'
cd '{point}/Many'
for i in $(seq 1200); do : > "file number $i.dll"; done
rm ./*7.dll
cd /
umount '{point}'
wait $pid
trap - EXIT
"""
    run("unshare", "-m", "sh", "-c", script)


def test_a_windows_disk_is_inventoried_through_its_ntfs(disk: Path) -> None:
    with opened(disk) as source:
        found = collect(open_machine([("sda", source)]))
    assert found.os == RELEASE
    assert found.hostname == "DESKTOP-1"
    assert found.packages == INSTALLED
    assert found.coverage.complete, found.coverage.problems
    assert found.coverage.volumes[0].content == "ntfs"


def test_directories_are_listed_by_their_index_as_the_sleuth_kit_lists_them(disk: Path) -> None:
    filesystem = tsk.open_filesystem(BytesSource(disk.with_name("c.img").read_bytes()))
    assert isinstance(filesystem, TskFileSystem)
    pending, listed = [filesystem.root], 0
    while pending:
        node = pending.pop()
        ours = {(name, inner) for name, inner, _ in filesystem.entries(node)}
        theirs = _listed_by_the_library(filesystem, node)
        assert ours == theirs
        listed += len(ours)
        pending += [inner for _, inner, kind in filesystem.entries(node) if kind is FileKind.DIRECTORY]
    assert listed > 1080


def _listed_by_the_library(filesystem: TskFileSystem, node: int) -> set[tuple[bytes, int]]:
    """Return (name, node) of what The Sleuth Kit lists, without what it makes up and what was deleted."""
    found = set()
    for entry in filesystem._open(node).as_directory():
        name = entry.info.name
        is_real = name.type not in (constants.TSK_FS_NAME_TYPE_VIRT, constants.TSK_FS_NAME_TYPE_VIRT_DIR)
        if is_real and int(name.flags) & int(constants.TSK_FS_NAME_FLAG_ALLOC):
            found.add((bytes(name.name), int(name.meta_addr)))
    return {each for each in found if each[0] not in (b".", b"..") and b":" not in each[0]}


def test_a_torn_block_of_an_index_is_told(disk: Path) -> None:
    image = bytearray(disk.with_name("c.img").read_bytes())
    blocks = [at for at in range(0, len(image), 4096) if image[at : at + 4] == b"INDX"]
    for at in blocks:
        image[at + 1022] ^= 1
    filesystem = tsk.open_filesystem(BytesSource(bytes(image)))
    many = filesystem.lookup(filesystem.root, b"many") if not getattr(filesystem, "problems", ()) else None
    assert len(blocks) > 10
    with pytest.raises(InputError, match="its sectors are of different writes"):
        list(filesystem.entries(many or filesystem.root))


def test_a_reader_of_windows_opens_and_imports_nothing_after_its_imports(disk: Path) -> None:
    assert confined(disk.with_name("c.img")) == f"{len(INSTALLED)} ['ntfs']"


def mutants_of(root: Path, count: int) -> Counter[str]:
    command = [sys.executable, databasemutants.__file__, "windows", str(root), SOFTWARE, "0", str(count)]
    path = os.pathsep.join([str(Path(databasemutants.__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=1000,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert {told for told in outcomes.values() if told not in {"same", "refused", "wrong"}} == set()
    return Counter(outcomes.values())


def with_hive(root: Path, software: bytes) -> Path:
    (root / CONFIG).mkdir(parents=True)
    (root / SOFTWARE).write_bytes(software)
    return root


def test_mutants_of_a_hive_are_read_or_refused(software: bytes, tmp_path: Path) -> None:
    """Values have no checksum: a changed letter of a program's name is another name."""
    counts = mutants_of(with_hive(tmp_path, software), MUTANTS)
    assert counts["wrong"] <= 0.2 * MUTANTS, counts
    assert counts["refused"] > 0.1 * MUTANTS, counts


@pytest.mark.soak
def test_a_thousand_mutants_of_a_hive(software: bytes, tmp_path: Path) -> None:
    assert mutants_of(with_hive(tmp_path, software), 1000)["wrong"] <= 200


def test_a_key_that_is_listed_twice_is_told(software: bytes) -> None:
    """A list costs 8 bytes for each key: thousands of them could name one program."""
    found = re.search(rb"l[fh][\x02-\x09]\0", software)
    assert found is not None
    content = bytearray(software)
    content[found.end() + 8 : found.end() + 16] = content[found.end() : found.end() + 8]
    hive = Hive(tree_with(bytes(content)), system.SOFTWARE)
    with pytest.raises(InputError, match="a list names it twice"):
        dump(hive, hive.key("") or pytest.fail("no root"))


def test_programs_end_at_their_limit_and_say_so(software: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = len(windows.read_database(tree_with(software)).packages)
    monkeypatch.setattr(system, "MAX_PACKAGES", 1)
    database = windows.read_database(tree_with(software))
    assert len(database.packages) < whole
    assert "hive: more than 1 updates or programs" in database.problems[0]


def test_keys_that_are_listed_again_and_again_end_at_the_limit(
    software: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hive_module, "MAX_CELLS_READ", 50)
    assert "more than 50 cells were asked for" in windows.read_database(tree_with(software)).problems[0]
