"""Reading with a cache by layer, through the real sandbox: never a cached answer that a fresh read denies."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from diskimages import MIB, run, take_snapshot, to_raw, wrap_gpt
from layers import Cache, domain_of, make_clone, make_clones, scribbled, write_to
from machineimages import debian_tree, make_filesystem, make_machine, packages

from undercroft.disks import qcow2
from undercroft.disks.fingerprint import fingerprint
from undercroft.disks.readset import replay
from undercroft.disks.source import DescriptorSource
from undercroft.errors import NotFoundError
from undercroft.model.disk import DiskFormat
from undercroft.model.domain import Domain, PoolVolume, Survey
from undercroft.model.fleet import DiskRead, ReadSet
from undercroft.model.inventory import Inventory
from undercroft.model.job import ProvenReads
from undercroft.model.schema import Json
from undercroft.ports.reader import Reader
from undercroft.readers import readers_digest
from undercroft.usecases import identity
from undercroft.usecases.copies import Copies
from undercroft.usecases.fleet.reading.hostfiles import HostFiles
from undercroft.usecases.fleet.reading.layers import CachedAnswer, How, LayerReader
from undercroft.usecases.identity import Inspections
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.session import start_reader
from undercroft.usecases.target import MachineTarget, from_images

GUEST_OFFSET = 1 * MIB
WRITES = 150


@pytest.fixture(scope="module")
def layers() -> Iterator[LayerReader]:
    reader = start_reader()
    yield LayerReader(reader)
    reader.close()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine of 60 packages, older than what is racy."""
    folder = tmp_path_factory.mktemp("base")
    image = make_machine(folder / "base.qcow2", [("now", debian_tree(folder / "tree", packages(60)))])
    time.sleep(identity.RACY_NS / 1e9 + 0.1)
    return image


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that a test has just made count as if they were older; only for tests of other rules."""
    monkeypatch.setattr(identity, "RACY_NS", -identity.RACY_NS)


def target_of(*images: Path, backing: tuple[Path, ...] = ()) -> MachineTarget:
    return from_images(
        [str(image) for image in images],
        image_format=DiskFormat.QCOW2,
        backing_files=[str(path) for path in backing],
    )


def versions(inventory: object) -> set[str]:
    assert isinstance(inventory, Inventory)
    return {package.version for package in inventory.packages}


def status_offset(image: Path) -> int:
    """Return where on the virtual disk the package database lies, by debugfs."""
    raw = to_raw(image, image.with_suffix(".whole"))
    filesystem = image.with_suffix(".part")
    with raw.open("rb") as disk, filesystem.open("wb") as part:
        disk.seek(GUEST_OFFSET)
        part.write(disk.read(24 * MIB))
    block = int(run("debugfs", "-R", "blocks /var/lib/dpkg/status", filesystem).split()[0])
    size = int(next(iter(run("dumpe2fs", "-h", filesystem).split("Block size:")[1].split())))
    raw.unlink()
    filesystem.unlink()
    return GUEST_OFFSET + block * size


def test_a_file_that_nobody_wrote_is_not_read_again(layers: LayerReader, base: Path) -> None:
    cache = Cache(layers)
    assert cache.read("base", target_of(base)).how is How.READ
    again = cache.read("base", target_of(base))
    assert (again.how, again.inventory, again.fingerprint) == (How.UNCHANGED, None, None)
    assert again.inventory_digest


def test_an_answer_counts_for_the_disks_as_they_were_given_alone(
    layers: LayerReader, base: Path, tmp_path: Path
) -> None:
    cache = Cache(layers)
    assert cache.read("base", target_of(base)).how is How.READ
    as_raw = from_images([str(base)], image_format=DiskFormat.RAW)
    assert cache.read("base", as_raw).how is How.READ
    assert cache.read("base", target_of(base)).how is How.READ


def test_a_new_overlay_on_a_known_base_is_proven_and_one_that_changes_a_package_is_read(
    layers: LayerReader, base: Path, tmp_path: Path
) -> None:
    cache = Cache(layers)
    first, second = make_clone(base, tmp_path / "a.qcow2"), make_clone(base, tmp_path / "b.qcow2")
    assert cache.read("a", target_of(first, backing=(base,))).how is How.READ
    proven = cache.read("b", target_of(second, backing=(base,)))
    assert (proven.how, proven.inventory) == (How.PROVEN, None)
    assert proven.fingerprint is not None
    offset = status_offset(base)
    write_to(second, offset + 40 * MIB // 2, b"unrelated" * 100)
    assert cache.read("b", target_of(second, backing=(base,))).how is How.PROVEN
    text = b"Package: pkg0000\nStatus: install ok installed\nVersion: 9:9-9\nArchitecture: amd64\n\n"
    write_to(second, offset, text + b"X" * 8)
    changed = cache.read("b", target_of(second, backing=(base,)))
    assert changed.how is How.READ
    assert "9:9-9" in versions(changed.inventory)
    assert cache.read("a", target_of(first, backing=(base,))).how in (How.PROVEN, How.UNCHANGED)


def test_a_lie_that_rests_on_no_byte_is_no_answer_for_a_sibling(
    layers: LayerReader, base: Path, tmp_path: Path, unhurried: None
) -> None:
    """What a reader says that one clone's image has taken over: its digest is right, for every clone."""
    del unhurried
    target = target_of(*make_clones(base, tmp_path, 1))
    with OpenMachine(target, layers._reader, Inspections(), Copies()) as machine:
        (digest,) = machine.replay(machine.state("current"), [ProvenReads((), (), "")]).digests
    lie = ReadSet((), (), digest)
    assert layers.read(target, "current", candidates=lambda _base, _limit: [("lie", lie)]).how is How.READ
    # Control: as far as the digest goes it would have counted.
    own = layers.read(target, "current", CachedAnswer("lie", (), "", lie))
    assert (own.how, own.inventory_digest) == (How.PROVEN, "lie")


def test_a_byte_that_an_answer_rests_on_is_seen_also_when_the_files_times_are_set_back(
    layers: LayerReader, base: Path, tmp_path: Path, unhurried: None
) -> None:
    cache = Cache(layers)
    image = tmp_path / "copy.qcow2"
    run("cp", base, image)
    before = cache.read("copy", target_of(image))
    assert before.how is How.READ
    assert cache.read("copy", target_of(image)).how is How.UNCHANGED
    reference = tmp_path / "reference"
    run("touch", "-r", image, reference)
    offset = image.read_bytes().index(b"Version: 1.0-1")
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(b"Version: 1.0-2")
    run("touch", "-r", reference, image)
    # Control: size and modification time alone would have kept the old answer.
    assert image.stat().st_mtime_ns == before.files[0].modified_ns
    after = cache.read("copy", target_of(image))
    assert after.how is How.READ
    assert versions(after.inventory) == {"1.0-1", "1.0-2"}


def test_a_write_within_the_tick_of_the_clock_is_seen_because_a_racy_file_proves_nothing(
    layers: LayerReader, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "copy.qcow2"
    run("cp", base, image)
    cache = Cache(layers)
    racy = cache.read("copy", target_of(image))
    assert not racy.files[0].proves
    offset = image.read_bytes().index(b"Version: 1.0-1")
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(b"Version: 1.0-2")
    # The write falls into the same tick as far as the cache can see: it has the identity of afterwards.
    status = image.stat()
    forged = CachedAnswer(
        cache.answers["copy"].inventory,
        tuple(
            identity.FileIdentity(
                each.path, each.device, each.inode, each.size_bytes, status.st_mtime_ns, status.st_ctime_ns,
                proves=each.proves,
            )
            for each in racy.files
        ),
        racy.inputs,
        racy.reads,
    )  # fmt: skip
    assert layers.read(target_of(image), "current", forged).how is How.READ
    # Control: were the racy identity believed, the old answer would stand.
    monkeypatch.setattr(identity, "RACY_NS", -identity.RACY_NS)
    believed = CachedAnswer(
        forged.inventory,
        layers.read(target_of(image), "current").files,
        forged.inputs,
        forged.reads,
    )
    assert layers.read(target_of(image), "current", believed).how is How.UNCHANGED


def test_a_snapshot_is_proven_while_the_machine_writes_on(
    layers: LayerReader, base: Path, tmp_path: Path
) -> None:
    cache = Cache(layers)
    image = tmp_path / "copy.qcow2"
    run("cp", base, image)
    take_snapshot(image, "before")
    first = cache.read("before", target_of(image), "before")
    assert first.how is How.READ
    assert [snapshot.name for snapshot in first.snapshots[0][1]] == ["before"]
    write_to(image, status_offset(base), b"Package: gone\n" * 40)
    again = cache.read("before", target_of(image), "before")
    assert again.how is How.PROVEN
    assert again.fingerprint == first.fingerprint
    now = cache.read("now", target_of(image))
    assert now.how is How.READ
    with pytest.raises(NotFoundError):
        cache.read("none", target_of(image), "none")


def test_a_fingerprint_can_be_had_alone(layers: LayerReader, base: Path) -> None:
    with layers.open(target_of(base)) as machine:
        alone = machine.fingerprint("current")
    descriptor = os.open(base, os.O_RDONLY)
    source = qcow2.open_image(DescriptorSource(descriptor, base.stat().st_size))
    assert alone == fingerprint([("disk0", source)])
    os.close(descriptor)


def test_credentials_come_through_the_sandbox(layers: LayerReader, tmp_path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "alice", "-f", tmp_path / "key")
    run(
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
        "-subj", "/CN=web01.example.org", "-keyout", tmp_path / "web.key", "-out", tmp_path / "web.pem",
    )  # fmt: skip
    key, public = (tmp_path / "key").read_bytes(), (tmp_path / "key.pub").read_bytes()
    extra = {
        "etc/passwd": b"root:x:0:0::/root:/bin/sh\n",
        "etc/shadow": b"root:!:19000::::::\n",
        "root/.ssh/authorized_keys": public,
        "etc/ssh/ssh_host_ed25519_key": key,
        "etc/nginx/web.pem": (tmp_path / "web.pem").read_bytes(),
        "etc/nginx/web.key": (tmp_path / "web.key").read_bytes(),
    }
    image = make_machine(tmp_path / "m.qcow2", [("now", debian_tree(tmp_path / "tree", packages(3), extra))])
    with layers.open(target_of(image)) as machine:
        found = machine.credentials("current")
    printed = run("ssh-keygen", "-lf", tmp_path / "key.pub").split()[1]
    assert {(each.role, each.fingerprint) for each in found.keys} == {
        ("authorized", printed),
        ("host", printed),
    }
    assert [each.path for each in found.certificates] == ["/etc/nginx/web.pem"]
    assert len(found.secrets) == 2
    assert found.problems == ()


def test_credentials_of_a_clone_are_its_own(layers: LayerReader, tmp_path: Path) -> None:
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "alice", "-f", tmp_path / "key")
    public = (tmp_path / "key.pub").read_bytes()
    extra = {"etc/passwd": b"root:x:0:0::/root:/bin/sh\n", "root/.ssh/authorized_keys": public}
    image = make_machine(tmp_path / "m.qcow2", [("now", debian_tree(tmp_path / "tree", packages(3), extra))])
    first, second, third = make_clones(image, tmp_path, 3)
    calls: list[str] = []
    counted = LayerReader(_Counting(layers._reader, calls))

    def found(clone: Path) -> list[str]:
        with counted.open(target_of(clone, backing=(image,))) as machine:
            return [key.comment for key in machine.credentials("current").keys]

    assert found(first) == ["alice"]
    assert found(second) == ["alice"]
    assert calls.count("credentials") == 1  # the second clone was proven
    offset = to_raw(image, tmp_path / "whole").read_bytes().index(b" alice\n")
    write_to(third, offset, b" mally")
    assert found(third) == ["mally"]
    assert found(second) == ["alice"]
    assert found(third) == ["mally"]


class _Counting:
    """A reader that notes which jobs it passes on."""

    sandboxed = True

    def __init__(self, reader: Reader, calls: list[str]) -> None:
        self._reader = reader
        self._calls = calls

    def call(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Json:
        self._calls.append(job)
        return self._reader.call(job, arguments, descriptors)

    def stream(self, job: str, arguments: Mapping[str, Json], descriptors: Sequence[int]) -> Iterator[bytes]:
        return self._reader.stream(job, arguments, descriptors)

    def close(self) -> None:
        self._reader.close()


def test_many_threads_share_one_reader(layers: LayerReader, base: Path, tmp_path: Path) -> None:
    first = layers.read(target_of(base), "current")
    assert first.reads is not None
    known = [("base", first.reads)]
    clones = make_clones(base, tmp_path, 40)

    def read(clone: Path) -> How:
        target = target_of(clone, backing=(base,))
        return layers.read(target, "current", candidates=lambda _base, _limit: known).how

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, clones)) == {How.PROVEN}


def campaign(layers: LayerReader, folder: Path, count: int, seed: int) -> dict[How, int]:
    """Write at random into a disk and read it with the cache and without: the two must never differ."""
    tree = debian_tree(folder / "tree", packages(30), {"usr/local/bin/tool": b"#!/bin/sh\n"})
    (tree / "usr/local/bin/tool").chmod(0o755)
    image = wrap_gpt(folder / "disk.raw", [make_filesystem(tree, folder / "fs", size_bytes=8 * MIB)])
    target = from_images([str(image)], image_format=DiskFormat.RAW)
    known = layers.read(target, "current")
    assert known.reads is not None
    cached = CachedAnswer("known", known.files, known.inputs, known.reads)
    ranges = [(read.offset, read.length) for read in known.reads.reads]
    random = Random(seed)
    counts = dict.fromkeys(How, 0)
    for number in range(count):
        with scribbled(image, random, ranges):
            reading = layers.read(target, "current", cached)
            counts[reading.how] += 1
            if reading.how is not How.READ:
                fresh = layers.read(target, "current").inventory
                assert fresh == known.inventory, f"write {number} of seed {seed}"
    return counts


def test_random_writes_never_leave_an_answer_that_a_fresh_read_denies(
    layers: LayerReader, tmp_path: Path
) -> None:
    counts = campaign(layers, tmp_path, WRITES, 1)
    assert counts[How.PROVEN] > WRITES // 5
    assert counts[How.READ] > WRITES // 5
    assert counts[How.UNCHANGED] == 0


@pytest.mark.soak
def test_ten_thousand_random_writes(layers: LayerReader, tmp_path: Path) -> None:
    campaign(layers, tmp_path, 10_000, 2)


def test_without_a_byte_of_the_proof_a_wrong_answer_would_stand(
    layers: LayerReader, base: Path, tmp_path: Path
) -> None:
    """Control of the campaign: a set that lacks the package database proves the wrong thing."""
    image = tmp_path / "copy.qcow2"
    run("cp", base, image)
    whole = layers.read(target_of(image), "current")
    assert whole.reads is not None
    offset = status_offset(base)
    lacking = tuple(
        read for read in whole.reads.reads if not read.offset <= offset < read.offset + read.length
    )
    assert len(lacking) < len(whole.reads.reads)
    reduced = _set_of(image, lacking)
    write_to(image, offset, b"Package: other\nStatus: install ok installed\nVersion: 7\n\n")
    cached = CachedAnswer("old", whole.files, whole.inputs, whole.reads)
    assert layers.read(target_of(image), "current", cached).how is How.READ
    cached = CachedAnswer("old", whole.files, whole.inputs, reduced)
    assert layers.read(target_of(image), "current", cached).how is How.PROVEN


def _set_of(image: Path, reads: tuple[DiskRead, ...]) -> ReadSet:
    descriptor = os.open(image, os.O_RDONLY)
    source = qcow2.open_image(DescriptorSource(descriptor, image.stat().st_size))
    numbers = [number for read in reads for number in (read.disk, read.offset, read.length)]
    digest = replay([("disk0", source)], numbers, readers_digest())
    os.close(descriptor)
    return ReadSet(reads, (source.size_bytes,), digest)


DETERMINISM = """
import os, sys, json
from undercroft.disks import qcow2
from undercroft.disks.machine import open_machine
from undercroft.disks.readset import Recorder
from undercroft.disks.source import DescriptorSource
from undercroft.inventory.collect import collect
from undercroft.model.schema import encode
descriptor = os.open(sys.argv[1], os.O_RDONLY)
recorder = Recorder([("vda", qcow2.open_image(DescriptorSource(descriptor, os.fstat(descriptor).st_size)))])
found = collect(open_machine(recorder.disks))
print(json.dumps([encode(found), encode(recorder.finish())]))
"""


def test_the_reader_asks_and_answers_the_same_in_every_process(tmp_path: Path) -> None:
    extra = {f"usr/local/bin/tool{number}": b"#!/bin/sh\n" for number in range(30)}
    extra |= {f"opt/app/{number}": b"x" for number in range(30)}
    extra |= {f"var/lib/dpkg/info/pkg{number:04}.list": b"/usr/local/bin/tool3\n" for number in range(30)}
    extra["etc/fstab"] = b"/dev/vdb1 /srv ext4 defaults 0 0\n/dev/vdc /opt/data ext4 defaults 0 0\n"
    tree = debian_tree(tmp_path / "tree", packages(30), extra)
    for path in (*(tree / "usr/local/bin").iterdir(), *(tree / "opt/app").iterdir()):
        path.chmod(0o755)
    image = make_machine(tmp_path / "m.qcow2", [("now", tree)])
    answers = {
        subprocess.run(
            [sys.executable, "-c", DETERMINISM, str(image)],
            env={**os.environ, "PYTHONHASHSEED": str(seed), "TZ": zone},
            capture_output=True,
            check=True,
        ).stdout
        for seed, zone in ((0, "UTC"), (1, "Asia/Tokyo"), (4242, "America/Lima"))
    }
    assert len(answers) == 1


def test_a_header_that_names_another_machines_disk_is_not_followed(
    layers: LayerReader, base: Path, tmp_path: Path
) -> None:
    secret = make_machine(
        tmp_path / "victim.qcow2", [("now", debian_tree(tmp_path / "tree", packages(5, "6.6-6")))]
    )
    attacker = make_clone(secret, tmp_path / "attacker.qcow2")
    victim = domain_of("victim", secret, number=1, chain=())
    mallory = domain_of("mallory", attacker, number=2)
    survey = _survey(tmp_path, victim, mallory)
    reading = layers.read(HostFiles(survey).target_for(mallory), "current")
    assert reading.inventory is not None
    assert reading.inventory.packages == ()
    assert "machine victim writes" in reading.inventory.coverage.problems[0]
    # Control: a caller who allows that file gets the victim's packages as the attacker's.
    allowed = layers.read(target_of(attacker, backing=(secret,)), "current")
    assert versions(allowed.inventory) == {"6.6-6"}


def test_a_clone_of_a_pools_volume_is_read_without_a_chain_from_libvirt(
    layers: LayerReader, base: Path, tmp_path: Path
) -> None:
    clone = make_clone(base, tmp_path / "clone.qcow2")
    domain = domain_of("web01", clone)
    survey = _survey(base.parent, domain)
    reading = layers.read(HostFiles(survey).target_for(domain), "current")
    assert versions(reading.inventory) == {"1.0-1"}
    assert reading.files[1].path == str(base)


def _survey(folder: Path, *domains: Domain) -> Survey:
    volumes = tuple(
        PoolVolume("default", path.name, str(path), "qcow2", path.stat().st_size)
        for path in sorted(folder.glob("*.qcow2"))
    )
    return Survey("host", "test:///default", datetime.now(UTC), domains, volumes)


def test_an_open_machine_for_the_command_line_is_as_before(base: Path) -> None:
    reader = start_reader()
    with OpenMachine(target_of(base), reader) as machine:
        assert machine.inventory(machine.states[0]) == machine.proven_inventory(machine.states[0]).inventory
    reader.close()
