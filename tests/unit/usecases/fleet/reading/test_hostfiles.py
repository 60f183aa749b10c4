"""A header picks among the host's bases, and never gets what a machine writes or what is no image."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from layers import domain_of

from undercroft.model.domain import (
    ChainEntry,
    Domain,
    DomainSnapshot,
    Ownership,
    PoolVolume,
    SnapshotDisk,
    Survey,
)
from undercroft.usecases.chain import UnreadError
from undercroft.usecases.fleet.reading.hostfiles import HostFiles
from undercroft.usecases.target import NamedFile


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"image")
    return path


def files_of(domains: Sequence[Domain], *volumes: Path, extra: Sequence[str] = ()) -> HostFiles:
    pool = tuple(PoolVolume("default", path.name, str(path), "qcow2", 5) for path in volumes)
    return HostFiles(Survey("host", "test:///default", datetime.now(UTC), tuple(domains), pool), extra)


def test_a_volume_of_a_pool_is_found_by_an_absolute_a_relative_and_a_linked_name(tmp_path: Path) -> None:
    base, top = image(tmp_path / "base.qcow2"), image(tmp_path / "vm/top.qcow2")
    link = tmp_path / "vm/link.qcow2"
    link.symlink_to(base)
    files = files_of([domain_of("web01", top)], base, link)
    for name in (str(base), "../base.qcow2", "link.qcow2", f"file:{base}"):
        assert files.find(name, str(top)) == NamedFile(str(base))


def test_a_link_that_the_host_does_not_list_is_not_followed(tmp_path: Path) -> None:
    base, top = image(tmp_path / "base.qcow2"), image(tmp_path / "vm/top.qcow2")
    (tmp_path / "vm/link.qcow2").symlink_to(base)
    with pytest.raises(UnreadError, match="in no storage pool"):
        files_of([domain_of("web01", top)], base).find("link.qcow2", str(top))


def test_no_file_that_only_a_header_names_is_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below an automounter a look is a mount of whatever the name says."""
    base, top = image(tmp_path / "base.qcow2"), image(tmp_path / "top.qcow2")
    files = files_of([domain_of("web01", top)], base)
    looked_at: list[str] = []

    def told(call: Callable[..., object]) -> Callable[..., object]:
        def look(path: object, *more: object, **named: object) -> object:
            looked_at.append(str(path))
            return call(path, *more, **named)

        return look

    for name in ("stat", "lstat", "readlink", "open"):
        monkeypatch.setattr(os, name, told(getattr(os, name)))
    for name in ("/net/evil.example.org/x", "/net/evil.example.org/../../base.qcow2", "../net/evil/x"):
        with pytest.raises(UnreadError):
            files.find(name, str(top))
    assert not [path for path in looked_at if "evil" in path]


@pytest.mark.parametrize(
    "name", ["/etc/shadow", "../../../../../../etc/shadow", "json:{}", "nbd://localhost/x"]
)
def test_what_is_no_image_of_this_host_is_not_opened(tmp_path: Path, name: str) -> None:
    base, top = image(tmp_path / "base.qcow2"), image(tmp_path / "top.qcow2")
    files = files_of([domain_of("web01", top)], base)
    with pytest.raises(UnreadError, match="in no storage pool"):
        files.find(name, str(top))


def test_a_file_of_the_same_name_elsewhere_is_not_it(tmp_path: Path) -> None:
    other, top = image(tmp_path / "pool/base.qcow2"), image(tmp_path / "top.qcow2")
    with pytest.raises(UnreadError):
        files_of([], other).find("/somewhere/base.qcow2", str(top))


def test_a_disk_that_a_machine_writes_is_refused_under_every_name(tmp_path: Path) -> None:
    disk, top = image(tmp_path / "victim.qcow2"), image(tmp_path / "top.qcow2")
    hard, soft = tmp_path / "hard.qcow2", tmp_path / "soft.qcow2"
    os.link(disk, hard)
    soft.symlink_to(disk)
    victim, mallory = domain_of("victim", disk), domain_of("mallory", top, number=2)
    files = files_of([victim, mallory], disk, hard, soft)
    for name in (disk, hard, soft):
        with pytest.raises(UnreadError, match="machine victim writes"):
            files.find(str(name), str(top))
    # Control: without the victim the pool's volumes are bases like any other.
    for name in (disk, hard, soft):
        assert files_of([mallory], disk, hard, soft).find(str(name), str(top))


def test_a_disk_that_three_machines_write_is_none_of_theirs_to_give(tmp_path: Path) -> None:
    disk, top = image(tmp_path / "shared.qcow2"), image(tmp_path / "top.qcow2")
    machines = [domain_of(f"m{number}", disk, number=number) for number in (1, 2, 3)]
    files = files_of(machines, disk)
    for domain in machines:
        now = frozenset({str(top)})  # a snapshot has put another image on top since
        with pytest.raises(UnreadError):
            files.find(str(disk), str(top), domain.uuid, now)


def test_an_administrators_pattern_does_not_open_a_machines_disk(tmp_path: Path) -> None:
    disk, top, base = (image(tmp_path / name) for name in ("victim.qcow2", "top.qcow2", "base.qcow2"))
    files = files_of([domain_of("victim", disk)], extra=[f"{tmp_path}/*.qcow2"])
    assert files.find("base.qcow2", str(top)) == NamedFile(str(base))
    with pytest.raises(UnreadError, match="victim"):
        files.find("victim.qcow2", str(top))


def test_a_second_disk_of_ones_own_is_no_base(tmp_path: Path) -> None:
    first, second = image(tmp_path / "vda.qcow2"), image(tmp_path / "vdb.qcow2")
    files = files_of([domain_of("web01", first, second)], first, second)
    with pytest.raises(UnreadError, match="machine web01 writes"):
        files.find(str(second), str(first))


def test_a_templates_disk_is_a_base(tmp_path: Path) -> None:
    disk, top = image(tmp_path / "template.qcow2"), image(tmp_path / "top.qcow2")
    template = replace(domain_of("template", disk), ownership=Ownership(template=True))
    assert files_of([template]).find(str(disk), str(top)) == NamedFile(str(disk))


def test_a_base_that_libvirt_names_for_one_machine_serves_another(tmp_path: Path) -> None:
    base, known, top = (image(tmp_path / name) for name in ("base.qcow2", "known.qcow2", "top.qcow2"))
    first = domain_of("first", known)
    disk = replace(first.disks[0], chain=(ChainEntry(str(base), "qcow2"),))
    files = files_of([replace(first, disks=(disk,)), domain_of("second", top, number=2)])
    assert files.find(str(base), str(top)) == NamedFile(str(base))


def test_the_file_that_a_snapshot_left_behind_is_the_machines_own_alone(tmp_path: Path) -> None:
    older, top = image(tmp_path / "older.qcow2"), image(tmp_path / "top.qcow2")
    disk = SnapshotDisk("vda", "external", str(older))
    snapshot = DomainSnapshot("s", "", 1, "disk-snapshot", disks=(disk,))
    owner = replace(domain_of("owner", image(tmp_path / "now.qcow2")), snapshots=(snapshot,))
    other = domain_of("other", top, number=2)
    files = files_of([owner, other], older)
    own = files.target_for(owner).find_backing
    foreign = files.target_for(other).find_backing
    assert own is not None
    assert foreign is not None
    assert own(str(older), str(tmp_path / "now.qcow2")) == NamedFile(str(older))
    with pytest.raises(UnreadError, match="machine owner writes"):
        foreign(str(older), str(top))


def test_what_a_machine_wrote_until_a_snapshot_after_the_survey_is_its_own_base_alone(tmp_path: Path) -> None:
    base, overlay, top = (image(tmp_path / name) for name in ("base.qcow2", "base.snap", "top.qcow2"))
    before, other = domain_of("owner", base), domain_of("other", top, number=2)
    now = domain_of("owner", overlay)
    files = files_of([before, other])

    def find(files: HostFiles, machine: Domain) -> NamedFile:
        backing = files.target_for(machine).find_backing
        assert backing is not None
        return backing(str(base), str(machine.disks[0].path))

    assert find(files, now) == NamedFile(str(base))
    for machine in (before, other):
        with pytest.raises(UnreadError, match="machine owner writes"):
            find(files, machine)
    shared = files_of([before, domain_of("other", base, number=2)])
    with pytest.raises(UnreadError, match="machine other writes"):
        find(shared, now)


def test_a_chain_that_libvirt_names_is_taken_over(tmp_path: Path) -> None:
    top = image(tmp_path / "top.qcow2")
    target = files_of([]).target_for(domain_of("web01", top, chain=()))
    assert target.disks[0].chain == ()
    assert target.disks[0].format_source == "libvirt"


def test_an_image_of_no_machine_is_told_by_its_bytes(tmp_path: Path) -> None:
    volume = PoolVolume("default", "orphan.qcow2", str(image(tmp_path / "orphan.qcow2")), "qcow2", 5)
    target = files_of([]).target_for_image(volume)
    assert target.disks[0].image == NamedFile(volume.path, None)
