"""Many images in one call, through the real sandbox: chains, what clones share, and who tries to pass for it.

The attacks have their control beside them: what they would get if the proof were not asked for.
"""

import fcntl
import json
import os
import shutil
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import btrfsimages
import pytest
from containerimages import as_vdi_child, make, make_ova, suffix
from diskimages import MIB, make_qcow2, make_raw, run, take_snapshot, to_raw
from layers import make_clone, write_to
from machineimages import debian_tree, make_machine, packages

from undercroft.errors import OperationError
from undercroft.model.disk import DiskFormat, ImageInfo
from undercroft.model.finding import Assessment
from undercroft.model.images import ImageReport, LeftOut, Role
from undercroft.model.inventory import Inventory
from undercroft.model.schema import Json, encode
from undercroft.ports.reader import Reader
from undercroft.store import imagecache
from undercroft.store.imagecache import IN_MEMORY, SqliteImageCache
from undercroft.usecases import identity, machinejobs
from undercroft.usecases import machine as machine_of_usecases
from undercroft.usecases.assess import unassessed
from undercroft.usecases.images.scanning import FolderScan
from undercroft.usecases.images.survey import Seen, survey
from undercroft.usecases.images.walking import walk
from undercroft.usecases.report import scan_machine
from undercroft.usecases.session import Request, open_machine, start_reader

NOW = datetime(2026, 11, 26, tzinfo=UTC)
TREE_PACKAGES = 40
FREE_OFFSET = 20 * MIB
"""A place in the guest's disk that no inventory reads."""


class Watched:
    """A reader that counts jobs; its answers may be changed as a child that was taken over would."""

    sandboxed = True

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.jobs: list[str] = []
        self.forge: Callable[[str, Mapping[str, Json], Json], Json] = lambda job, arguments, answer: answer

    def call(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Json:
        answer = self._reader.call(job, arguments, descriptors)
        if arguments.get("images") != []:
            self.jobs.append(job)
        return self.forge(job, arguments, answer)

    def stream(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Iterator[bytes]:
        return self._reader.stream(job, arguments, descriptors)

    def close(self) -> None:
        """The module's tests share the sandbox."""


class Scanned:
    """What one scan of folders gave."""

    def __init__(self, images: Sequence[ImageReport], left_out: Sequence[LeftOut]) -> None:
        self.order = [Path(image.path).name for image in images]
        self.by_name = {Path(image.path).name: image for image in images}
        self.left_out = {Path(one.path).name: one for one in left_out}

    def inventory(self, name: str) -> Inventory:
        found = self.by_name[name].report.states[0].inventory
        assert found is not None, self.by_name[name].report.states[0].problems
        return found

    def shared(self) -> list[str]:
        return sorted(name for name, image in self.by_name.items() if image.shared)


def assess(inventory: Inventory) -> Assessment:
    return replace(unassessed(inventory, "", NOW.date()), problems=())


def scan(
    reader: Reader, *folders: Path, cache: SqliteImageCache | None = None, extra: Sequence[Path] = ()
) -> Scanned:
    with closing(SqliteImageCache(IN_MEMORY)) as own:
        named = [str(path) for path in extra]
        scan = FolderScan(reader, cache or own, assess, scanned_at=NOW, sandboxed=True, extra=named)
        return Scanned(list(scan.images(walk([str(folder) for folder in folders]))), scan.left_out)


def alone(reader: Reader, image: Path, *backing: Path) -> Inventory:
    """Return what a scan of this image alone finds: the oracle for what it is told to be among many."""
    asked = Request((str(image),), backing_files=tuple(str(path) for path in backing))
    with open_machine(asked, reader) as machine:
        found = scan_machine(machine, assess, scanned_at=NOW, sandboxed=True).states[0].inventory
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def a_shorter_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock that stamps files is coarse by some milliseconds here; the second covers any host."""
    monkeypatch.setattr(identity, "RACY_NS", 50_000_000)


def settle() -> None:
    """Wait until no file is so new that its times prove nothing."""
    time.sleep(identity.RACY_NS / 1e9 + 0.05)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Reader]:
    reader = start_reader()
    yield reader
    reader.close()


@pytest.fixture
def reader(sandbox: Reader) -> Watched:
    return Watched(sandbox)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machine")
    tree = debian_tree(folder / "tree", packages(TREE_PACKAGES), {"usr/local/bin/ours": b"#!/bin/sh\n"})
    (tree / "usr/local/bin/ours").chmod(0o755)
    return make_machine(folder / "machine.qcow2", [("now", tree)])


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    return make_machine(folder / "other.qcow2", [("now", debian_tree(folder / "tree", packages(7, "9.9-9")))])


@pytest.fixture
def pool(tmp_path: Path, machine: Path) -> Path:
    """A base with three clones, of which two wrote something of their own where no inventory looks."""
    folder = tmp_path / "pool"
    folder.mkdir()
    shutil.copyfile(machine, folder / "base.qcow2")
    for number in range(3):
        make_clone(folder / "base.qcow2", folder / f"clone{number}.qcow2")
        if number:
            write_to(folder / f"clone{number}.qcow2", FREE_OFFSET, bytes([number]) * 8192)
    settle()
    return folder


def changed_clone(base: Path, clone: Path, *commands: str) -> Path:
    """Make a clone whose guest's filesystem debugfs changed: only the clusters that differ lie in it."""
    raw = to_raw(base, clone.with_suffix(".raw"))
    part = clone.with_suffix(".part")
    data = raw.read_bytes()
    part.write_bytes(data[MIB:-MIB])
    for command in commands:
        run("debugfs", "-w", "-R", command, part)
    place_whole(part, raw)
    make_qcow2(raw, clone, backing=base)
    raw.unlink()
    part.unlink()
    settle()
    return clone


def place_whole(part: Path, disk: Path) -> None:
    with disk.open("r+b") as file:
        file.seek(MIB)
        file.write(part.read_bytes())


def test_clones_are_told_from_their_base_and_share_its_answer(reader: Watched, pool: Path) -> None:
    found = scan(reader, pool)
    assert found.order == ["base.qcow2", "clone0.qcow2", "clone1.qcow2", "clone2.qcow2"]
    assert {name: image.role for name, image in found.by_name.items()} == {
        "base.qcow2": Role.BASE,
        "clone0.qcow2": Role.MACHINE,
        "clone1.qcow2": Role.MACHINE,
        "clone2.qcow2": Role.MACHINE,
    }
    assert found.shared() == ["clone0.qcow2", "clone1.qcow2", "clone2.qcow2"]
    assert found.by_name["clone1.qcow2"].report.disks[0].chain == (f"{pool}/base.qcow2",)
    assert found.left_out == {}
    for name in found.order:
        assert found.inventory(name) == alone(reader, pool / name, pool / "base.qcow2")
        assert found.by_name[name].report.complete


def test_a_clone_costs_one_child_of_its_own(reader: Watched, pool: Path) -> None:
    scan(reader, pool)
    assert reader.jobs.count("compare") == 3
    assert reader.jobs.count("reading") == 1
    assert reader.jobs.count("survey") == 1


def test_one_changed_byte_of_the_package_database_is_seen(reader: Watched, pool: Path) -> None:
    clone = pool / "clone3.qcow2"
    data = to_raw(pool / "base.qcow2", pool / "flat").read_bytes()
    (pool / "flat").unlink()
    make_clone(pool / "base.qcow2", clone)
    write_to(clone, data.index(b"Version: 1.0-1\n", data.index(b"Package: pkg0017\n")) + 9, b"7")
    settle()
    found = scan(reader, pool)
    assert "clone3.qcow2" not in found.shared()
    changed = {package.name: package.version for package in found.inventory("clone3.qcow2").packages}
    assert changed["pkg0017"] == "7.0-1"
    assert found.inventory("clone3.qcow2") == alone(reader, clone, pool / "base.qcow2")


@pytest.mark.parametrize(
    "commands",
    [
        ("write {new} /usr/local/bin/theirs", "set_inode_field /usr/local/bin/theirs mode 0100755"),
        ("write {new} /boot/vmlinuz-6.9.9-evil",),
        ("rm /usr/local/bin/ours",),
    ],
)
def test_a_file_in_a_folder_that_was_listed_is_seen(
    reader: Watched, pool: Path, tmp_path: Path, commands: Sequence[str]
) -> None:
    (tmp_path / "new").write_bytes(b"#!/bin/sh\nexit 0\n")
    given = [command.format(new=tmp_path / "new") for command in commands]
    clone = changed_clone(pool / "base.qcow2", pool / "clone3.qcow2", *given)
    found = scan(reader, pool)
    assert "clone3.qcow2" not in found.shared()
    assert found.inventory("clone3.qcow2") != found.inventory("base.qcow2")
    assert found.inventory("clone3.qcow2") == alone(reader, clone, pool / "base.qcow2")


def test_without_the_proof_such_a_clone_would_pass(reader: Watched, pool: Path) -> None:
    """The control: a comparison that always says yes, as a child may that the image took over."""

    def yes(job: str, arguments: Mapping[str, Json], answer: Json) -> Json:
        if job != "compare":
            return answer
        assert isinstance(answer, dict)
        sets = arguments["sets"]
        assert isinstance(sets, list)
        assert isinstance(sets[0], dict)
        return {**answer, "digests": [sets[0]["digest"]]}

    changed_clone(pool / "base.qcow2", pool / "clone3.qcow2", "rm /usr/local/bin/ours")
    reader.forge = yes
    assert "clone3.qcow2" in scan(reader, pool).shared()


def test_what_one_image_says_of_another_is_not_believed(reader: Watched, pool: Path, other: Path) -> None:
    """A child that looks at many was taken over: it says that the others' clone rests on this pool's base."""
    shutil.copyfile(other, pool / "other.qcow2")
    victim = make_clone(pool / "other.qcow2", pool / "victim.qcow2")
    settle()

    def lie(job: str, arguments: Mapping[str, Json], answer: Json) -> Json:
        if job != "survey":
            return answer
        forged: Json = json.loads(json.dumps(answer).replace(f"{pool}/other.qcow2", f"{pool}/base.qcow2"))
        return forged

    reader.forge = lie
    found = scan(reader, pool)
    assert found.inventory("victim.qcow2") == alone(reader, victim, pool / "other.qcow2")
    assert len(found.inventory("victim.qcow2").packages) == 7
    assert found.by_name["victim.qcow2"].report.disks[0].chain == (f"{pool}/other.qcow2",)


def test_no_image_is_left_out_on_the_word_of_another(reader: Watched, pool: Path, machine: Path) -> None:
    to_raw(machine, pool / "rawdisk")
    settle()

    def hide(job: str, arguments: Mapping[str, Json], answer: Json) -> Json:
        if job != "survey" or not isinstance(answer, list) or len(answer) < 2:
            return answer
        info = encode(ImageInfo(DiskFormat.RAW, MIB))
        return [{"info": info, "content": "", "problem": ""} for _ in answer]

    reader.forge = hide
    found = scan(reader, pool)
    assert found.left_out == {}
    assert len(found.inventory("rawdisk").packages) == TREE_PACKAGES


def test_a_child_that_dies_of_one_image_takes_no_other_with_it(reader: Watched, pool: Path) -> None:
    def dies(job: str, arguments: Mapping[str, Json], answer: Json) -> Json:
        if job == "survey" and "clone1" in json.dumps(arguments):
            return "nonsense"
        return answer

    reader.forge = dies
    found = scan(reader, pool)
    assert set(found.order) == {"base.qcow2", "clone0.qcow2", "clone1.qcow2", "clone2.qcow2"}
    assert all(image.report.complete for image in found.by_name.values())


def test_a_child_that_calls_its_failure_the_host_s_ends_no_scan(reader: Watched, pool: Path) -> None:
    def fails(job: str, arguments: Mapping[str, Json], answer: Json) -> Json:
        if job in {"survey", "inspect"} and "clone1" in json.dumps(arguments):
            raise OperationError("the host is out of order")
        return answer

    reader.forge = fails
    found = scan(reader, pool)
    assert [name for name, image in found.by_name.items() if image.report.complete] == [
        "base.qcow2",
        "clone0.qcow2",
        "clone2.qcow2",
    ]


def test_a_broken_image_stops_no_other_and_says_what_is_wrong(reader: Watched, pool: Path) -> None:
    (pool / "broken.qcow2").write_bytes((pool / "base.qcow2").read_bytes()[: 1 << 16])
    (pool / "nothing.qcow2").write_bytes(b"")
    (pool / "noise.img").write_bytes(os.urandom(1 << 16))
    lost = make_clone(pool / "base.qcow2", pool / "lost.qcow2")
    run("qemu-img", "rebase", "-u", "-b", "/elsewhere/gone.qcow2", "-F", "qcow2", lost)
    settle()
    found = scan(reader, pool)
    assert found.shared() == ["clone0.qcow2", "clone1.qcow2", "clone2.qcow2"]
    for name, said in (
        ("broken.qcow2", "lies beyond the end"),
        ("noise.img", "no root filesystem was found"),
        (
            "lost.qcow2",
            "in none of the folders that were named; name its folder too, or the file with --backing",
        ),
    ):
        assert said in " ".join(found.by_name[name].report.states[0].problems)
        assert not found.by_name[name].report.complete
    assert found.left_out["nothing.qcow2"].unread
    assert "0 bytes long" in found.left_out["nothing.qcow2"].why


def test_what_is_no_image_is_left_out_with_a_reason(reader: Watched, pool: Path, tmp_path: Path) -> None:
    (pool / "web01.xml").write_text("<domain/>")
    make_raw(pool / "debian.iso", 1 << 20, {0x8001: b"CD001", 0x8006: b"\x01"})
    make_raw(pool / "disguised.img", 1 << 20, {0x8001: b"CD001", 0x8006: b"\x01"})
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(pool / "m.sock"))
        found = scan(reader, pool)
    assert found.left_out["debian.iso"].why == "an ISO image"
    assert found.left_out["m.sock"].why == "a socket"
    assert found.left_out["web01.xml"].why.startswith("no disk image")
    assert not any(one.unread for one in found.left_out.values())
    assert not found.by_name["disguised.img"].report.complete, "a guest may write an ISO's magic to its disk"


def test_texts_are_left_out_without_a_child_and_descriptors_and_envelopes_are_not(
    reader: Watched, machine: Path, tmp_path: Path
) -> None:
    raw = to_raw(machine, tmp_path / "raw")
    folder = tmp_path / "pool"
    folder.mkdir()
    make("vmdk-flat", raw, folder / "web.vmdk")
    (folder / "web.vmdk").rename(folder / "descriptor")
    (folder / "envelope").write_text(
        '\n<Envelope><References><File id="f" href="web-flat.vmdk"/></References>'
        '<DiskSection><Disk fileRef="f" format="raw"/></DiskSection></Envelope>'
    )
    for number in range(100):
        (folder / f"{number}.log").write_text(f"line {number}\n" * 50)
    (folder / "text.img").write_text("a broken image, by its name")
    settle()
    found = scan(reader, folder)
    assert len(found.left_out) == 100
    assert all(one.why.startswith("no disk image") and not one.unread for one in found.left_out.values())
    assert reader.jobs.count("survey") == 1
    assert {len(found.inventory(name).packages) for name in ("descriptor", "envelope")} == {TREE_PACKAGES}
    assert not found.by_name["text.img"].report.complete


def test_a_backing_name_that_leads_outside_is_not_opened(
    reader: Watched, pool: Path, tmp_path: Path, other: Path
) -> None:
    shutil.copyfile(other, tmp_path / "secret.qcow2")
    make_clone(tmp_path / "secret.qcow2", pool / "curious.qcow2")
    settle()
    found = scan(reader, pool)
    state = found.by_name["curious.qcow2"].report.states[0]
    assert state.inventory is None or not state.inventory.packages
    assert "in none of the folders that were named" in " ".join(state.problems)
    both = scan(reader, pool, tmp_path / "secret.qcow2")
    assert len(both.inventory("curious.qcow2").packages) == 7


@pytest.mark.parametrize(
    ("link", "told"),
    [
        (lambda path, target: path.symlink_to(target), "a symbolic link where none may be"),
        (lambda path, target: path.hardlink_to(target), "another file since the folder was listed"),
    ],
)
def test_a_link_that_takes_an_image_s_place_after_it_was_listed_is_not_followed(
    reader: Watched,
    pool: Path,
    tmp_path: Path,
    other: Path,
    link: Callable[[Path, Path], None],
    told: str,
) -> None:
    shutil.copyfile(other, tmp_path / "secret.qcow2")

    def swap(job: str, arguments: Mapping[str, Json], answer: Json) -> Json:
        if job == "survey" and arguments["images"]:
            for name in ("clone1.qcow2", "base.qcow2"):
                (pool / name).unlink(missing_ok=True)
                link(pool / name, tmp_path / "secret.qcow2")
        return answer

    settle()
    reader.forge = swap
    for image in scan(reader, pool).by_name.values():
        (state,) = image.report.states
        assert state.inventory is None
        assert told in state.problems[0]


def test_a_copied_chain_is_read_with_a_warning(reader: Watched, pool: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    pool.rename(moved)
    found = scan(reader, moved)
    assert found.shared() == ["clone0.qcow2", "clone1.qcow2", "clone2.qcow2"]
    assert "was taken, the only file here" in found.by_name["clone1.qcow2"].report.warnings[0]


def test_chains_of_chains_and_snapshots_are_states_of_their_own(reader: Watched, pool: Path) -> None:
    take_snapshot(pool / "clone1.qcow2", "before")
    data = to_raw(pool / "base.qcow2", pool / "flat").read_bytes()
    (pool / "flat").unlink()
    write_to(pool / "clone1.qcow2", data.index(b"Version: 1.0-1\n") + 9, b"5")
    make_clone(pool / "clone1.qcow2", pool / "grand.qcow2")
    settle()
    found = scan(reader, pool)
    states = {state.name: state for state in found.by_name["clone1.qcow2"].report.states}
    assert list(states) == ["current", "before"]
    before, current = states["before"].inventory, states["current"].inventory
    assert before == found.inventory("base.qcow2")
    assert current is not None
    assert current != before
    assert found.inventory("grand.qcow2") == current
    assert found.by_name["grand.qcow2"].shared == f"{pool}/clone1.qcow2"
    assert found.by_name["clone1.qcow2"].role is Role.BASE
    assert found.order[-1] == "grand.qcow2"


def test_a_second_call_reads_nothing_and_a_written_image_is_read_again(
    reader: Watched, pool: Path, tmp_path: Path
) -> None:
    with closing(SqliteImageCache(f"{tmp_path}/cache/images.db")) as cache:
        first = scan(reader, pool, cache=cache)
    reader.jobs.clear()
    with closing(SqliteImageCache(f"{tmp_path}/cache/images.db")) as cache:
        again = scan(reader, pool, cache=cache)
    assert reader.jobs == []
    assert all(image.kept for image in again.by_name.values())
    assert [again.inventory(name) for name in again.order] == [first.inventory(name) for name in first.order]
    write_to(pool / "clone1.qcow2", FREE_OFFSET, b"z" * 512)
    settle()
    with closing(SqliteImageCache(f"{tmp_path}/cache/images.db")) as cache:
        third = scan(reader, pool, cache=cache)
    assert [name for name, image in third.by_name.items() if not image.kept] == ["clone1.qcow2"]
    assert third.inventory("clone1.qcow2") == first.inventory("clone1.qcow2")


def test_other_readers_read_anew_what_nobody_wrote_to(
    reader: Watched, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upgrade within one version: what is kept of the old readers proves nothing of the new ones."""
    with closing(SqliteImageCache(f"{tmp_path}/cache/images.db")) as cache:
        scan(reader, pool, cache=cache)
    for module in (imagecache, machine_of_usecases, machinejobs):
        monkeypatch.setattr(module, "readers_digest", lambda: "others")
    reader.jobs.clear()
    with closing(SqliteImageCache(f"{tmp_path}/cache/images.db")) as cache:
        found = scan(reader, pool, cache=cache)
    assert not any(image.kept for image in found.by_name.values())
    assert reader.jobs.count("reading") == 1
    assert found.shared() == ["clone0.qcow2", "clone1.qcow2", "clone2.qcow2"]


def test_a_changed_base_is_read_again_and_so_are_its_clones(
    reader: Watched, pool: Path, tmp_path: Path, other: Path
) -> None:
    with closing(SqliteImageCache(f"{tmp_path}/cache/images.db")) as cache:
        scan(reader, pool, cache=cache)
        shutil.copyfile(other, pool / "base.qcow2")
        settle()
        found = scan(reader, pool, cache=cache)
    assert not any(image.kept for image in found.by_name.values())
    for name in found.order:
        assert found.inventory(name) == alone(reader, pool / name, pool / "base.qcow2")


def test_an_image_that_a_running_machine_writes_is_incomplete(reader: Watched, pool: Path) -> None:
    with (pool / "clone1.qcow2").open("r+b") as writer:
        fcntl.fcntl(writer, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 101, 1, 0))
        found = scan(reader, pool)
    assert [name for name, image in found.by_name.items() if not image.report.complete] == ["clone1.qcow2"]
    assert (
        "a running machine has it open for writing"
        in found.by_name["clone1.qcow2"].report.states[0].problems[0]
    )


def test_a_sandbox_that_fails_ends_the_scan_and_what_was_read_stays(
    reader: Watched, pool: Path, tmp_path: Path
) -> None:
    failing = False

    def fails(job: str, arguments: Mapping[str, Json], answer: Json) -> Json:
        nonlocal failing
        failing = failing or (job == "compare" and "clone1" in json.dumps(arguments))
        if failing:
            raise OperationError("the sandbox's reader is gone: killed")
        return answer

    reader.forge = fails
    with closing(SqliteImageCache(f"{tmp_path}/cache/images.db")) as cache:
        with pytest.raises(OperationError, match="reader is gone"):
            scan(reader, pool, cache=cache)
        failing = False
        reader.forge = lambda job, arguments, answer: answer
        found = scan(reader, pool, cache=cache)
    assert found.by_name["base.qcow2"].kept
    assert all(image.report.complete for image in found.by_name.values())


def test_other_containers_are_found_with_their_pieces_and_parents(
    reader: Watched, machine: Path, tmp_path: Path
) -> None:
    raw = to_raw(machine, tmp_path / "raw")
    folder = tmp_path / "pool"
    folder.mkdir()
    for kind in ("vmdk-split", "vmdk-flat", "vhdx", "vdi"):
        make(kind, raw, folder / f"{kind}.{suffix(kind)}")
    make("vmdk", raw, folder / "base.vmdk")
    run("qemu-img", "create", "-q", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", folder / "clone.vmdk")
    settle()
    found = scan(reader, folder)
    assert {name: image.role.value for name, image in found.by_name.items()} == {
        "base.vmdk": "base",
        "clone.vmdk": "machine",
        "vdi.vdi": "machine",
        "vhdx.vhdx": "machine",
        "vmdk-flat-flat.vmdk": "base",
        "vmdk-flat.vmdk": "machine",
        "vmdk-split.vmdk": "machine",
    }
    assert {name: one.unread for name, one in found.left_out.items()} == {"vmdk-split-s001.vmdk": False}
    assert "a piece of a split disk" in found.left_out["vmdk-split-s001.vmdk"].why
    for image in found.by_name.values():
        assert image.report.complete, image.report.states[0].problems
    assert {len(found.inventory(name).packages) for name in found.order} == {TREE_PACKAGES}
    assert found.shared() == ["clone.vmdk"]


def test_what_an_archive_left_unchecked_is_told_among_many_as_of_one(
    reader: Watched, machine: Path, tmp_path: Path
) -> None:
    disk = make("vmdk-stream", to_raw(machine, tmp_path / "raw"), tmp_path / "disk.vmdk")
    folder = tmp_path / "pool"
    folder.mkdir()
    archive = make_ova(folder / "web.ova", [disk], manifest=None)
    settle()
    damaged = bytearray(make_ova(folder / "damaged.ova", [disk]).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / "damaged.ova").write_bytes(damaged)
    settle()
    scanned = scan(reader, folder)
    found = scanned.inventory("web.ova")
    assert "has no manifest" in found.coverage.notes[-1]
    assert found == alone(reader, archive)
    assert "digest differs" in " ".join(scanned.by_name["damaged.ova"].report.states[0].problems)


def test_what_is_held_of_an_image_until_it_is_read_is_bounded(reader: Watched, tmp_path: Path) -> None:
    """A megabyte of names in each of a hundred thousand descriptors would be all of the host's memory."""
    lines = "".join(f'RW 1 FLAT "{number:0200}.vmdk" 0\n' for number in range(4000))
    text = f"# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n{lines}"
    (tmp_path / "greedy.vmdk").write_text(text)
    with ThreadPoolExecutor(1) as pool, closing(SqliteImageCache(IN_MEMORY)) as cache:
        (seen,) = survey(walk([str(tmp_path)]).files, reader, cache, pool, lambda _count: None)
    assert isinstance(seen, Seen)
    assert seen.info is not None
    assert len(json.dumps(encode(seen.info))) < 1000
    assert "its disk lies in 4000 files, the limit is 200" in " ".join(
        scan(reader, tmp_path).by_name["greedy.vmdk"].report.states[0].problems
    )


def test_a_parent_that_two_files_may_be_is_none_until_one_is_named(
    reader: Watched, machine: Path, other: Path, tmp_path: Path
) -> None:
    """A VDI difference names a number and no file: a second image of that number is no parent."""
    folder = tmp_path / "pool"
    folder.mkdir()
    base = make("vdi", to_raw(machine, tmp_path / "raw"), folder / "base.vdi")
    run("qemu-img", "create", "-q", "-f", "vdi", folder / "child.vdi", str((tmp_path / "raw").stat().st_size))
    as_vdi_child(folder / "child.vdi", base)
    settle()
    assert len(scan(reader, folder).inventory("child.vdi").packages) == TREE_PACKAGES
    forged = bytearray(make("vdi", to_raw(other, tmp_path / "theirs"), folder / "zz.vdi").read_bytes())
    forged[392:424] = base.read_bytes()[392:424]
    (folder / "zz.vdi").write_bytes(forged)
    settle()
    (state,) = scan(reader, folder).by_name["child.vdi"].report.states
    assert state.inventory is None or not state.inventory.packages
    assert "--backing FILE" in " ".join(state.problems)
    named = scan(reader, folder, extra=(base,))
    assert len(named.inventory("child.vdi").packages) == TREE_PACKAGES


def test_nobody_hides_an_image_by_saying_that_it_is_a_part_of_theirs(
    reader: Watched, pool: Path, machine: Path
) -> None:
    """A descriptor that a guest's owner hands in names another machine's disk as its extent."""
    to_raw(machine, pool / "victim.img")
    (pool / "broken.img").write_bytes(os.urandom(MIB))
    descriptor = (
        '# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="monolithicFlat"\n'
    )
    for name in ("victim.img", "broken.img"):
        (pool / f"greedy-{name}.vmdk").write_text(f'{descriptor}RW 2048 FLAT "{name}" 0\n')
    settle()
    found = scan(reader, pool)
    assert len(found.inventory("victim.img").packages) == TREE_PACKAGES
    assert not found.by_name["broken.img"].report.complete
    assert found.left_out == {}


@pytest.mark.skipif(bool(btrfsimages.problem()), reason=btrfsimages.problem())
def test_a_snapshot_that_only_the_clone_s_guest_took_is_a_state_of_the_clone(
    reader: Watched, tmp_path: Path
) -> None:
    fill = "import shutil, sys; shutil.copytree(sys.argv[1], '.', symlinks=True, dirs_exist_ok=True)"
    tree = debian_tree(tmp_path / "tree", packages(5))
    (raw,) = btrfsimages.make(tmp_path)
    btrfsimages.write([raw], fill, argument=str(tree))
    pool = tmp_path / "pool"
    pool.mkdir()
    base = make_qcow2(raw, pool / "base.qcow2")
    newer = debian_tree(tmp_path / "newer", packages(6, "2.0-1"))
    (newer / "etc/os-release").unlink()
    btrfsimages.in_mount([raw], "btrfs -q subvolume snapshot . before")
    btrfsimages.write([raw], fill, argument=str(newer))
    make_qcow2(raw, pool / "clone.qcow2", backing=base)
    make_clone(base, pool / "still.qcow2")
    settle()
    found = scan(reader, pool)
    states = {name: [state.name for state in image.report.states] for name, image in found.by_name.items()}
    assert states == {
        "base.qcow2": ["current"],
        "clone.qcow2": ["current", "subvolume before"],
        "still.qcow2": ["current"],
    }
    assert found.shared() == ["still.qcow2"]
    current, before = (state.inventory for state in found.by_name["clone.qcow2"].report.states)
    assert current is not None
    assert before is not None
    assert ({package.version for package in current.packages}, len(before.packages)) == ({"2.0-1"}, 5)
