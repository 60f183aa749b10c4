"""The pieces of a disk are known by names made of its image's own, and no two images have one in common."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from layers import domain_of

from undercroft.model.disk import DiskFormat
from undercroft.model.domain import Domain, PoolVolume, Survey
from undercroft.usecases.chain import UnreadError
from undercroft.usecases.fleet.reading.hostfiles import HostFiles
from undercroft.usecases.fleet.reading.pieces import is_piece
from undercroft.usecases.target import NamedFile


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("web-flat.vmdk", "web.vmdk"),
        ("web-s001.vmdk", "web.vmdk"),
        ("web-f012.vmdk", "web.vmdk"),
        ("web-000001-delta.vmdk", "web-000001.vmdk"),
        ("web.raw", "web.qcow2"),
        ("web-data.raw", "web.qcow2"),
        ("web.qcow2.data", "web.qcow2"),
        ("web_data-file.img", "web.qcow2"),
    ],
)
def test_what_the_makers_call_pieces_is_one(name: str, image: str) -> None:
    assert is_piece(name, image)


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("web.vmdk", "web.vmdk"),
        ("web2-flat.vmdk", "web.vmdk"),
        ("web-2-flat.vmdk", "web.vmdk"),
        ("web-flat-flat.vmdk", "web.vmdk"),
        ("web-s01.vmdk", "web.vmdk"),
        ("web-flat.vmdk\n", "web.vmdk"),
        ("db.raw", "web.qcow2"),
        ("web-2.raw", "web.qcow2"),
        ("web-2-data.raw", "web.qcow2"),
        ("web.qcow2", "web.vmdk"),
    ],
)
def test_another_image_s_pieces_are_none(name: str, image: str) -> None:
    assert not is_piece(name, image)


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"image")
    return path


def machine(name: str, disk: Path, number: int = 1, kind: str = "vmdk") -> Domain:
    domain = domain_of(name, disk, number=number)
    return replace(domain, disks=tuple(replace(each, format=kind) for each in domain.disks))


def files_of(*domains: Domain, volumes: tuple[Path, ...] = ()) -> HostFiles:
    pool = tuple(PoolVolume("default", path.name, str(path), "raw", 5) for path in volumes)
    return HostFiles(Survey("host", "test:///default", datetime.now(UTC), domains, pool))


def test_a_piece_beside_its_image_is_found_by_a_relative_and_an_absolute_name(tmp_path: Path) -> None:
    web = machine("web", image(tmp_path / "web.vmdk"))
    flat = image(tmp_path / "web-flat.vmdk")
    for name in ("web-flat.vmdk", str(flat), f"file:{flat}"):
        found = files_of(web).find_piece(name, f"{tmp_path}/web.vmdk", web.uuid)
        assert found == NamedFile(str(flat), DiskFormat.RAW, no_link=True)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/shadow",
        "../web-flat.vmdk",
        "sub/../web-flat.vmdk",
        "sub/web-flat.vmdk",
        "/elsewhere/web-flat.vmdk",
        "victim-flat.vmdk",
        "victim.vmdk",
        "web-s002.vmdk",
        "web-s003.vmdk",
        "web-s004.vmdk",
        "web-s005.vmdk",
        "web.vmdk",
        "",
        "nbd://localhost/x",
        "json:{}",
    ],
)
def test_nothing_else_is_opened_whatever_the_header_says(tmp_path: Path, name: str) -> None:
    web, victim = (machine(name, image(tmp_path / f"{name}.vmdk"), number) for number, name in VICTIMS)
    for path in ("sub/web-flat.vmdk", "victim-flat.vmdk", "outside"):
        image(tmp_path / path)
    (tmp_path / "web-s002.vmdk").symlink_to(tmp_path / "victim.vmdk")
    os.link(tmp_path / "victim.vmdk", tmp_path / "web-s003.vmdk")
    os.link(tmp_path / "victim-flat.vmdk", tmp_path / "web-s004.vmdk")
    os.mkfifo(tmp_path / "web-s005.vmdk")
    with pytest.raises(UnreadError):
        files_of(web, victim).find_piece(name, f"{tmp_path}/web.vmdk", web.uuid)


VICTIMS = ((1, "web"), (2, "victim"))


def test_without_the_other_machine_such_a_hard_link_is_a_file_like_any(tmp_path: Path) -> None:
    """The control: it is the machine that writes the file which makes it another's."""
    web = machine("web", image(tmp_path / "web.vmdk"))
    os.link(image(tmp_path / "victim-flat.vmdk"), tmp_path / "web-s004.vmdk")
    assert files_of(web).find_piece("web-s004.vmdk", f"{tmp_path}/web.vmdk", web.uuid)


def test_a_piece_of_a_machine_s_disk_is_no_base_for_another(tmp_path: Path) -> None:
    """A directory pool lists pieces as volumes, and volumes may be bases."""
    victim = machine("victim", image(tmp_path / "victim.vmdk"))
    flat = image(tmp_path / "victim-flat.vmdk")
    mallory = domain_of("mallory", image(tmp_path / "mallory.qcow2"), number=2)
    with pytest.raises(UnreadError, match="machine victim writes"):
        files_of(victim, mallory, volumes=(flat,)).find(str(flat), f"{tmp_path}/mallory.qcow2", mallory.uuid)
    assert files_of(mallory, volumes=(flat,)).find(str(flat), f"{tmp_path}/mallory.qcow2", mallory.uuid)


def test_a_data_file_that_two_machines_images_may_mean_is_nobody_s(tmp_path: Path) -> None:
    data = image(tmp_path / "web.raw")
    first = machine("first", image(tmp_path / "web.qcow2"), 1, "qcow2")
    second = machine("second", image(tmp_path / "web.img"), 2, "qcow2")
    assert files_of(first).find_piece("web.raw", f"{tmp_path}/web.qcow2", first.uuid).path == str(data)
    with pytest.raises(UnreadError, match="machine second writes"):
        files_of(first, second).find_piece("web.raw", f"{tmp_path}/web.qcow2", first.uuid)
