"""Where a snapshot's bytes lie, by libvirt's word."""

from dataclasses import replace

import pytest

from undercroft.errors import UnsupportedError
from undercroft.model.domain import (
    ChainEntry,
    DiskKind,
    Domain,
    DomainDisk,
    DomainSnapshot,
    Power,
    SnapshotDisk,
)
from undercroft.model.report import CURRENT
from undercroft.usecases.fleet.reading.snapshotdisks import whereabouts

TOP, MIDDLE, BASE = (ChainEntry(f"/images/{name}.qcow2", "qcow2") for name in ("top", "middle", "base"))
DISK = DomainDisk("vda", "disk", DiskKind.FILE, TOP.path, "qcow2", (MIDDLE, BASE))
DOMAIN = Domain("uuid", "web01", Power.RUNNING, disks=(DISK,))


def snapshot(*disks: SnapshotDisk) -> DomainSnapshot:
    return DomainSnapshot("before", "", 1, "disk-snapshot", disks=disks)


@pytest.mark.parametrize("disks", [(), (SnapshotDisk("vda", "internal"),), (SnapshotDisk("vdb", "no"),)])
def test_an_internal_snapshot_is_a_state_of_the_machines_own_images(disks) -> None:
    place = whereabouts(DOMAIN, snapshot(*disks))
    assert (place.domain, place.state, place.own) == (DOMAIN, "before", True)


def test_an_external_snapshot_is_what_lies_below_the_image_that_it_put_on_top() -> None:
    place = whereabouts(DOMAIN, snapshot(SnapshotDisk("vda", "external", TOP.path)))
    (disk,) = place.domain.disks
    assert (disk.path, disk.chain, place.state, place.own) == (MIDDLE.path, (BASE,), CURRENT, False)
    (disk,) = whereabouts(DOMAIN, snapshot(SnapshotDisk("vda", "external", MIDDLE.path))).domain.disks
    assert (disk.path, disk.chain) == (BASE.path, ())


def test_a_disk_that_the_snapshot_leaves_out_stays_as_it_is() -> None:
    data = replace(DISK, target="vdb", path="/images/data.qcow2", chain=())
    taken = snapshot(SnapshotDisk("vda", "external", TOP.path), SnapshotDisk("vdb", "no"))
    assert whereabouts(replace(DOMAIN, disks=(DISK, data)), taken).domain.disks[1] == data


@pytest.mark.parametrize("path", ["/images/gone.qcow2", BASE.path, ""])
def test_a_chain_that_does_not_lead_there_any_more_is_not_guessed_at(path: str) -> None:
    with pytest.raises(UnsupportedError, match="vda does not lie on"):
        whereabouts(DOMAIN, snapshot(SnapshotDisk("vda", "external", path)))


def test_a_chain_that_libvirt_does_not_name_is_not_taken_from_a_header() -> None:
    unknown = replace(DOMAIN, disks=(replace(DISK, chain=None),))
    with pytest.raises(UnsupportedError):
        whereabouts(unknown, snapshot(SnapshotDisk("vda", "external", TOP.path)))


def test_a_snapshot_of_both_kinds_is_no_one_state() -> None:
    mixed = snapshot(SnapshotDisk("vda", "external", TOP.path), SnapshotDisk("vdb", "internal"))
    with pytest.raises(UnsupportedError, match="internal for some disks"):
        whereabouts(DOMAIN, mixed)


def test_an_internal_snapshot_under_external_ones_lies_in_the_image_that_was_the_top_then() -> None:
    inside = snapshot(SnapshotDisk("vda", "internal"))
    first = DomainSnapshot("first", "before", 2, "x", disks=(SnapshotDisk("vda", "external", MIDDLE.path),))
    second = DomainSnapshot("second", "first", 3, "x", disks=(SnapshotDisk("vda", "external", TOP.path),))
    place = whereabouts(replace(DOMAIN, snapshots=(inside, first, second)), inside)
    (disk,) = place.domain.disks
    assert (disk.path, disk.chain, place.state, place.own) == (BASE.path, (), "before", False)


def test_external_snapshots_of_another_branch_or_gone_ones_move_nothing() -> None:
    inside = snapshot(SnapshotDisk("vda", "internal"))
    aside = DomainSnapshot("aside", "", 2, "x", disks=(SnapshotDisk("vda", "external", TOP.path),))
    gone = DomainSnapshot("gone", "before", 3, "x", disks=(SnapshotDisk("vda", "external", "/images/x"),))
    domain = replace(DOMAIN, snapshots=(inside, aside, gone))
    assert whereabouts(domain, inside).domain == domain


def test_an_internal_snapshot_called_current_is_not_the_present_state() -> None:
    with pytest.raises(UnsupportedError, match="cannot be told from the machine's present state"):
        whereabouts(DOMAIN, replace(snapshot(), name=CURRENT))
