"""The tree of executions on a real host: what libvirt is told to do, and what is done behind its back.

Whatever is done while the agent is there is done again while it is away: killed before, started after.
"""

import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fleethost
import pytest
from diskimages import run
from fleethost import FleetHost
from fleetstates import NEW, filesystem

MISSING = fleethost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-lineage"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

WORKLOAD = """
mount -t ext4 /dev/vda /mnt
n=0
while :; do
  n=$((n+1))
  echo ALIVE $n
  usleep 500000
done
"""
NONE = -1
"""In a tree: no parent among the machine's own executions."""
QEMU = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
UNLOCKED = (
    "<qemu:commandline><qemu:arg value='-global'/><qemu:arg value='virtio-blk-pci.share-rw=on'/>"
    "</qemu:commandline></domain>"
)
"""QEMU's lock on the image gives way where the device says that it can be shared."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetHost]:
    folder = tmp_path_factory.mktemp("lineage")
    with fleethost.running(folder, WORKLOAD) as host:
        host.policy("version: 1\n")
        with host.up():
            yield host


@pytest.fixture
def state(host: FleetHost, request: pytest.FixtureRequest) -> Path:
    """A filesystem with a UUID of its own: no other test's machine is its relative."""
    made = filesystem(host.folder, request.node.name, NEW)
    run("tune2fs", "-U", "random", made)
    return made


class Told:
    """What `undercroft lineage` says of one machine's own executions, in order."""

    def __init__(self, host: FleetHost, name: str) -> None:
        self.document = host.document("lineage", name)
        self.nodes: list[dict[str, Any]] = [
            node for node in self.document["executions"] if node["execution"]["name"] == name
        ]
        self.eids: list[str] = [node["execution"]["eid"] for node in self.nodes]

    def tree(self) -> list[tuple[str, int]]:
        """Return each execution's origin, and the number of its parent among them."""
        return [(one["execution"]["origin"], self._number(one["execution"]["parent"])) for one in self.nodes]

    def _number(self, parent: str) -> int:
        return self.eids.index(parent) if parent in self.eids else NONE


def wait_for_tree(host: FleetHost, name: str, tree: list[tuple[str, int]]) -> Told:
    told: list[Told] = []

    def as_expected() -> bool:
        told.append(Told(host, name))
        return told[-1].tree() == tree

    try:
        host.wait(as_expected, f"the tree is {tree}")
    except AssertionError as error:
        raise AssertionError(f"{told[-1].document}") from error
    return told[-1]


def patiently(host: FleetHost, *command: str) -> None:
    """Have virsh do something, as soon as the machine is not held for a scan."""

    def done() -> bool:
        said = host.virsh(*command, check=False)
        assert not said.returncode or " job" in said.stderr, said.stderr
        return not said.returncode

    host.wait(done, " ".join(command))


def ended(host: FleetHost, name: str) -> None:
    """Stop a machine, and wait until how it left its disks is on record."""
    ident = host.virsh("domuuid", name).stdout.strip()
    host.virsh("destroy", name)

    def seen() -> bool:
        with host.records() as records, records.reading() as record:
            (last,) = record.own_executions(ident, 1)
            left = record.state(f"end:{last.eid}")
            return not last.live and left is not None and bool(left.fingerprint)

    host.wait(seen, f"the disks of {name} are read")


def lived(host: FleetHost, name: str) -> None:
    """Start a machine, let it mount its disk, and stop it: the disk is another then."""
    host.virsh("start", name)
    lives_on(host, name)


def lives_on(host: FleetHost, name: str) -> None:
    host.wait(lambda: host.alive(name), f"{name} has mounted its disk")
    ended(host, name)


def snapshot_is_on_record(host: FleetHost, name: str, snapshot: str, *, read: bool) -> None:
    ident = host.virsh("domuuid", name).stdout.strip()

    def known() -> bool:
        with host.records() as records, records.reading() as record:
            found = [one for one in record.states(ident) if one.name == snapshot]
            return any(one.fingerprint or not read for one in found)

    host.wait(known, f"{name}@{snapshot} is on record")


@contextmanager
def agent_there(host: FleetHost, *, there: bool) -> Iterator[None]:
    """Have no agent while the block runs, where it is not there: killed before, started after."""
    if not there:
        host.stop_agent(signal.SIGKILL)
    yield
    if not there:
        host.start_agent()


def test_reverts_to_the_snapshots_of_one_execution_are_siblings(host: FleetHost, state: Path) -> None:
    name = "reverted"
    host.define(name, host.image(name, state))
    host.virsh("start", name)
    for snapshot in ("early", "late"):
        patiently(host, "snapshot-create-as", name, snapshot)
        snapshot_is_on_record(host, name, snapshot, read=False)
    tree = [("first", NONE)]
    for there, snapshot in ((True, "early"), (True, "early"), (False, "late"), (False, "early")):
        with agent_there(host, there=there):
            patiently(host, "snapshot-revert", name, snapshot)
        tree.append(("revert", 0))
        told = wait_for_tree(host, name, tree)
        assert told.nodes[-1]["began_from"]["name"] == snapshot
        assert [node["here"] for node in told.nodes] == [False] * (len(tree) - 1) + [True]
    host.forget(name)


def test_a_managed_save_that_is_restored_twice_is_a_restore_and_a_fork(host: FleetHost, state: Path) -> None:
    name = "kept"
    host.define(name, host.image(name, state))
    host.virsh("start", name)
    image = host.daemon.state_directory / "save" / f"{name}.save"
    tree = [("first", NONE)]
    for there in (True, False):
        with agent_there(host, there=there):
            patiently(host, "managedsave", name)
            copy = shutil.copy2(image, host.folder / "copy.save")
            host.virsh("start", name)
            host.virsh("destroy", name)
            shutil.copy2(copy, image)
            with host.daemon.down():  # libvirt looks for managed saves when it starts
                pass
            host.virsh("start", name)
        tree += [("restore", len(tree) - 1), ("fork", len(tree) - 1)]
        wait_for_tree(host, name, tree)
    host.forget(name)


@pytest.mark.soak
def test_one_save_file_that_is_restored_twice_is_a_restore_and_a_fork(host: FleetHost, state: Path) -> None:
    name = "filed"
    host.define(name, host.image(name, state))
    host.virsh("start", name)
    tree = [("first", NONE)]
    for there in (True, False):
        path = str(host.daemon.images / f"{name}-{there}.save")
        with agent_there(host, there=there):
            patiently(host, "save", name, path)
            host.virsh("restore", path)
            host.virsh("destroy", name)
            host.virsh("restore", path)
        tree += [("restore", len(tree) - 1), ("fork", len(tree) - 1)]
        wait_for_tree(host, name, tree)
    host.forget(name)


def test_an_image_that_was_copied_to_another_machine_makes_it_a_clone(host: FleetHost, state: Path) -> None:
    image = host.image("original", state)
    host.define("original", image)
    lived(host, "original")
    (original,) = Told(host, "original").eids
    for there in (True, False):
        name = f"copied-{there}".lower()
        with agent_there(host, there=there):
            host.define(name, Path(shutil.copy(image, host.daemon.images / f"{name}.qcow2")))
        host.virsh("start", name)
        (node,) = wait_for_tree(host, name, [("clone", NONE)]).nodes
        started = node["execution"]
        assert (started["parent"], started["certain"]) == (original, True), started["evidence"]
        if there:
            lives_on(host, name)  # an untouched copy could be the next one's parent as well
        host.forget(name)
    host.forget("original")


def test_an_image_that_was_put_back_from_a_backup_is_told(host: FleetHost, state: Path) -> None:
    name = "put-back"
    image = host.image(name, state)
    host.define(name, image)
    lived(host, name)
    backup = shutil.copy(image, host.folder / "backup.qcow2")
    lived(host, name)
    tree = [("first", NONE), ("start", 0)]
    for there in (True, False):
        with agent_there(host, there=there):
            shutil.copy(backup, image)
        host.virsh("start", name)
        tree.append(("backup", 0))
        wait_for_tree(host, name, tree)
        if there:
            lives_on(host, name)
    host.forget(name)


@pytest.mark.soak
def test_a_snapshot_that_qemu_img_applied_under_a_stopped_machine_is_a_revert(
    host: FleetHost, state: Path
) -> None:
    name = "applied"
    image = host.image(name, state)
    host.define(name, image)
    lived(host, name)
    host.virsh("snapshot-create-as", name, "cold")
    lived(host, name)
    snapshot_is_on_record(host, name, "cold", read=True)
    tree = [("first", NONE), ("start", 0)]
    for there in (True, False):
        with agent_there(host, there=there):
            run("qemu-img", "snapshot", "-a", "cold", image)
        host.virsh("start", name)
        tree.append(("revert", 0))
        told = wait_for_tree(host, name, tree)
        assert told.nodes[-1]["began_from"]["name"] == "cold"
        if there:
            lives_on(host, name)
    host.forget(name)


@pytest.mark.soak
def test_an_external_snapshot_goes_on_in_its_overlay_and_its_base_started_by_hand_is_a_revert(
    host: FleetHost, state: Path
) -> None:
    name = "overlaid"
    pool = host.daemon.images / "pool"
    pool.mkdir()
    image = host.image(f"pool/{name}", state)
    host.define(name, image)
    # libvirt 9.0 does not say what lies below such a machine that is off: its images are in a pool.
    host.virsh("pool-create-as", "images", "dir", "--target", str(pool))
    host.stop_agent()
    host.start_agent()  # it surveys the pool
    lived(host, name)
    host.virsh("snapshot-create-as", name, "outside", "--disk-only")
    assert f"{name}.outside" in host.virsh("domblklist", name).stdout, "it has a new top image"
    host.virsh("start", name)
    host.stop_agent()
    host.start_agent()
    snapshot_is_on_record(host, name, "outside", read=True)
    lives_on(host, name)
    done = host.virsh("snapshot-revert", name, "outside", check=False)
    wait_for_tree(host, name, [("first", NONE), ("start", 0)])
    if done.returncode:  # before libvirt 9.9
        assert "not supported" in done.stderr
        host.define(name, image)  # what an administrator does in its place
    host.virsh("start", name)
    told = wait_for_tree(host, name, [("first", NONE), ("start", 0), ("revert", 0)])
    assert told.nodes[-1]["began_from"]["name"] == "outside"
    host.forget(name)


def test_two_running_machines_that_write_to_one_image_are_an_alarm(host: FleetHost, state: Path) -> None:
    raw = Path(shutil.copy(state, host.daemon.images / "shared.raw"))
    for name in ("one", "other"):
        path, _ = host.described(name, raw)
        text = path.read_text().replace("type='qcow2'", "type='raw'").replace("</domain>", UNLOCKED)
        path.write_text(text.replace("<domain ", f"<domain {QEMU} ", 1))
        host.virsh("define", str(path))
    host.virsh("start", "one")
    assert not alarms(host, "one"), "control: one that runs alone is none"
    host.virsh("start", "other")
    for name in ("one", "other"):
        host.wait(lambda name=name: alarms(host, name), "the alarm stands")
        assert "both run and write to" in alarms(host, name)[0]
    host.forget("one")
    host.wait(lambda: not alarms(host, "other"), "it stands no longer")
    host.forget("other")


def alarms(host: FleetHost, name: str) -> list[str]:
    rows = [row for row in host.document("fleet")["rows"] if row["name"] == name]
    return [alarm for row in rows for alarm in row["alarms"]]


def test_a_transient_machine_that_lived_for_a_second_is_in_the_record(host: FleetHost, state: Path) -> None:
    for there in (True, False):
        name = f"transient-{there}".lower()
        path, _ = host.described(name, host.image(name, state))
        with agent_there(host, there=there):
            host.virsh("create", str(path))
            time.sleep(1)
            host.virsh("destroy", name)
        assert name not in host.virsh("list", "--all", "--name").stdout.split()

        host.wait(lambda name=name: is_over(host, name), f"{name} is on record, and ended")
        told = Told(host, name)
        assert len(told.nodes) == 1
        assert name in host.undercroft("lineage", name).stdout


def is_over(host: FleetHost, name: str) -> bool:
    with host.records() as records, records.reading() as record:
        known = [
            one for machine in record.find_machines(name) for one in record.executions(machine.domain.uuid)
        ]
        return bool(known) and not any(one.live for one in known)


def test_a_missing_genid_is_a_finding_and_mended_by_one_command(host: FleetHost, state: Path) -> None:
    name = "untold"
    host.define(name, host.image(name, state), genid=False)
    host.wait_for_verdict(name, "steady")
    assert "no <genid/>" in host.undercroft("machine", name).stdout
    assert "<genid>" not in host.virsh("dumpxml", "--inactive", name).stdout
    host.undercroft("machine", name, "--mend", "genid", "--yes", check=True)
    assert "<genid>" in host.virsh("dumpxml", "--inactive", name).stdout
    host.wait(lambda: "no <genid/>" not in host.undercroft("machine", name).stdout, "the finding is gone")
    host.forget(name)
