"""Clones that are copies of each other, through the real sandbox: each byte counts."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from layers import Cache, make_clones, write_to
from machineimages import debian_tree, make_machine, packages

from undercroft.model.disk import DiskFormat
from undercroft.model.schema import Json
from undercroft.ports.reader import Reader
from undercroft.usecases import copies, identity
from undercroft.usecases.fleet.reading.layers import How, LayerReader
from undercroft.usecases.session import start_reader
from undercroft.usecases.target import MachineTarget, from_images

MIB = 1 << 20


class Watched:
    """A reader that notes its jobs, and may answer a replay with whatever an attacker wants."""

    sandboxed = True

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.jobs: list[str] = []
        self.taken_over = False

    def call(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Json:
        self.jobs.append(job)
        answer = self._reader.call(job, arguments, descriptors)
        if job == "replay" and self.taken_over:
            sets = arguments["sets"]
            assert isinstance(sets, list)
            assert isinstance(answer, dict)
            assert isinstance(sets[0], dict)
            return {**answer, "digests": [sets[0]["digest"]]}
        return answer

    def stream(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Iterator[bytes]:
        return self._reader.stream(job, arguments, descriptors)

    def close(self) -> None:
        self._reader.close()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Reader]:
    reader = start_reader()
    yield reader
    reader.close()


@pytest.fixture
def reader(sandbox: Reader) -> Watched:
    return Watched(sandbox)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    return make_machine(folder / "base.qcow2", [("now", debian_tree(folder / "tree", packages(40)))])


@pytest.fixture
def clones(base: Path, tmp_path: Path) -> list[Path]:
    """Five clones that are older than what is racy."""
    made = make_clones(base, tmp_path, 5)
    time.sleep(identity.RACY_NS / 1e9 + 0.1)
    return made


def target_of(clone: Path, base: Path) -> MachineTarget:
    return from_images([str(clone)], image_format=DiskFormat.QCOW2, backing_files=[str(base)])


def test_the_third_copy_asks_the_sandbox_for_nothing_and_gets_what_a_fresh_read_gives(
    reader: Watched, base: Path, clones: list[Path]
) -> None:
    cache = Cache(LayerReader(reader))
    found = [cache.read(clone.name, target_of(clone, base)) for clone in clones[:2]]
    assert [one.how for one in found] == [How.READ, How.PROVEN]
    reader.jobs.clear()
    third = cache.read("third", target_of(clones[2], base))
    assert (third.how, reader.jobs) == (How.PROVEN, [])
    fresh = LayerReader(reader).read(target_of(clones[2], base), "current")
    assert cache.inventory("third") == fresh.inventory
    assert (third.fingerprint, third.snapshots) == (fresh.fingerprint, fresh.snapshots)
    assert [file.path for file in third.files] == [str(clones[2]), str(base)]


def test_one_byte_apart_is_no_copy(reader: Watched, base: Path, clones: list[Path]) -> None:
    cache = Cache(LayerReader(reader))
    for clone in clones[:3]:
        cache.read(clone.name, target_of(clone, base))
    with clones[3].open("r+b") as file:
        file.seek(60_000)  # in the header's cluster, where no reader looks
        file.write(b"\1")
    reader.jobs.clear()
    cache.read("fourth", target_of(clones[3], base))
    assert reader.jobs == ["inspect", "replay"]


def test_a_clone_that_its_guest_wrote_to_is_read_by_itself(
    reader: Watched, base: Path, clones: list[Path]
) -> None:
    cache = Cache(LayerReader(reader))
    for clone in clones[:3]:
        cache.read(clone.name, target_of(clone, base))
    write_to(clones[3], 0, b"no table of partitions any more" * 40)
    changed = cache.read("fourth", target_of(clones[3], base))
    assert changed.how is How.READ
    assert changed.fingerprint != cache.read("fifth", target_of(clones[4], base)).fingerprint


def test_a_base_that_was_written_to_ends_what_was_known_of_its_clones(
    reader: Watched, base: Path, clones: list[Path]
) -> None:
    cache = Cache(LayerReader(reader))
    for clone in clones[:3]:
        cache.read(clone.name, target_of(clone, base))
    with base.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(first)
    reader.jobs.clear()
    cache.read("fourth", target_of(clones[3], base))
    assert reader.jobs == ["reading"]


def test_what_was_read_of_a_file_that_is_still_being_written_counts_for_no_copy(
    reader: Watched, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "RACY_NS", 3600 * 10**9)
    cache = Cache(LayerReader(reader))
    for clone in make_clones(base, tmp_path, 3):
        cache.read(clone.name, target_of(clone, base))
    reader.jobs.clear()
    cache.read("again", target_of(tmp_path / "clone0002.qcow2", base))
    assert reader.jobs == ["inspect", "inspect", "replay"]


def test_a_child_that_an_image_took_over_speaks_for_copies_of_that_image_alone(
    reader: Watched, base: Path, clones: list[Path]
) -> None:
    cache = Cache(LayerReader(reader))
    first = cache.read("first", target_of(clones[0], base))
    write_to(clones[1], 0, b"takes the child over" * 100)
    time.sleep(identity.RACY_NS / 1e9 + 0.1)
    reader.taken_over = True
    lied = cache.read("hostile", target_of(clones[1], base))
    assert lied.how is How.PROVEN  # the control: the lie counts for the image that told it
    reader.taken_over = False
    honest = cache.read("other", target_of(clones[2], base))
    assert honest.fingerprint == first.fingerprint != lied.fingerprint
    write_to(clones[3], 0, b"another guest's own bytes" * 100)
    assert cache.read("changed", target_of(clones[3], base)).how is How.READ


def test_a_file_too_large_to_be_hashed_is_known_by_its_identity_alone(
    reader: Watched, base: Path, clones: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "WHOLE_BYTES", 4096)
    cache = Cache(LayerReader(reader))
    for clone in clones[:3]:
        cache.read(clone.name, target_of(clone, base))
    reader.jobs.clear()
    cache.read("fourth", target_of(clones[3], base))
    assert reader.jobs == ["inspect", "replay"]
