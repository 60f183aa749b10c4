"""Checkpoints of VMware's, Hyper-V's and VirtualBox' disks are states of their machines."""

import json
import os
from pathlib import Path

import containerimages
import diskimages
import pytest
from diskimages import MIB, run
from machineimages import debian_tree, make_machine, packages
from program import run_program

from undercroft.model.inventory import Inventory
from undercroft.sandbox.inprocess import InProcessReader
from undercroft.usecases.machine import OpenMachine
from undercroft.usecases.target import from_images


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One disk at three times: with three packages, patched, and with one more."""
    folder = tmp_path_factory.mktemp("disks")
    contents = (packages(3, "1.0-1"), packages(3, "1.0-2"), packages(4, "1.0-2"))
    made = []
    for number, content in enumerate(contents):
        tree = debian_tree(folder / f"tree{number}", content, {})
        image = make_machine(folder / f"{number}.qcow2", [("now", tree)], size_bytes=8 * MIB)
        made.append(diskimages.to_raw(image, folder / f"{number}.raw"))
    return made


def put_on_top(base: Path, content: Path, image: Path) -> Path:
    """Make a difference as VMware does, and have its machine write `content` since."""
    run("qemu-img", "create", "-q", "-f", "vmdk", "-b", base, "-F", "vmdk", image)
    run("qemu-io", "-f", "vmdk", "-c", f"write -q -s {content} 0 {content.stat().st_size}", image)
    return image


@pytest.fixture
def chain(disks: list[Path], tmp_path: Path) -> list[Path]:
    """The images of web01 after two snapshots, the oldest first."""
    base = containerimages.make("vmdk", disks[0], tmp_path / "web01.vmdk")
    first = put_on_top(base, disks[1], tmp_path / "web01-000001.vmdk")
    images = [base, first, put_on_top(first, disks[2], tmp_path / "web01-000002.vmdk")]
    for image in images:
        os.utime(image, (10**9, 10**9))  # a copy: the times say nothing
    return images


def versions(inventory: Inventory) -> list[str]:
    return [package.version for package in inventory.packages]


def opened(*images: Path, backing: list[Path]) -> OpenMachine:
    target = from_images([str(path) for path in images], backing_files=[str(path) for path in backing])
    return OpenMachine(target, InProcessReader())


def test_each_image_below_a_vmdk_difference_is_a_state(chain: list[Path]) -> None:
    base, first, top = chain
    with opened(top, backing=[base, first]) as machine:
        found = {state.name: versions(machine.inventory(state)) for state in machine.states}
    assert list(found) == ["current", "before web01-000001.vmdk", "before web01-000002.vmdk"]
    assert list(found.values()) == [["1.0-2"] * 4, ["1.0-1"] * 3, ["1.0-2"] * 3]


def test_a_disk_that_a_snapshot_left_out_is_unread_in_it(chain: list[Path], disks: list[Path]) -> None:
    base, first, top = chain
    data = containerimages.make("vmdk", disks[0], base.with_name("data.vmdk"))
    with opened(top, data, backing=[base, first]) as machine:
        state = machine.state("before web01-000002.vmdk")
        coverage = machine.inventory(state).coverage
    (reason,) = [volume.reason for volume in coverage.volumes if volume.disk == "disk1"]
    assert "'before web01-000002.vmdk' left it out" in reason


def test_a_vdi_difference_leaves_a_state_too(disks: list[Path], tmp_path: Path) -> None:
    base = containerimages.make("vdi", disks[0], tmp_path / "base.vdi")
    child = tmp_path / "{0a0b}.vdi"
    run("qemu-img", "create", "-q", "-f", "vdi", child, str(disks[0].stat().st_size))
    containerimages.as_vdi_child(child, base)
    with opened(child, backing=[base]) as machine:
        found = {state.name: versions(machine.inventory(state)) for state in machine.states}
    assert found == {"current": ["1.0-1"] * 3, "before {0a0b}.vdi": ["1.0-1"] * 3}


def test_what_lies_below_a_qcow2_overlay_may_be_a_template_and_is_no_state(
    disks: list[Path], tmp_path: Path
) -> None:
    base = containerimages.make("vmdk", disks[0], tmp_path / "base.vmdk")
    top = diskimages.create_qcow2(
        tmp_path / "top.qcow2", disks[0].stat().st_size, backing=base, backing_format="vmdk"
    )
    with opened(top, backing=[base]) as machine:
        assert [state.name for state in machine.states] == ["current"]


def test_the_program_scans_lists_and_names_checkpoints(chain: list[Path], tmp_path: Path) -> None:
    base, first, top = chain
    backing = ["--backing", str(base), "--backing", str(first)]
    scanned = run_program(tmp_path / "a.db", "scan", top, *backing, "-f", "json")
    names = [state["name"] for state in json.loads(scanned.stdout)["states"]]
    assert names == ["current", "before web01-000001.vmdk", "before web01-000002.vmdk"]
    listed = run_program(tmp_path / "a.db", "packages", f"{top}@before web01-000001.vmdk", *backing)
    assert "pkg0002  1.0-1 " in listed.stdout
    assert "pkg0002  1.0-2 " not in listed.stdout
