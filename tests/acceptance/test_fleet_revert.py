"""A rollback on a real host: refused by command while the guest runs on, and caught where virsh does it.

The machine has run unpatched and patched, and has a snapshot with RAM of each. Control runs do without
Undercroft: the unpatched guest comes back, and its packets arrive.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fleethost
import pytest
from fleethost import FleetHost
from fleetstates import CVE, NEW, OLD, filesystem

MISSING = fleethost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-revert"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

REFUSED = 1
NAME, BEFORE, PATCHED = "web-01", "before-upgrade", "patched"
POLICY = "version: 1\ndefaults: {drifting: quarantine, below_floor: quarantine}\n"
STRICT = "version: 1\ndefaults: {drifting: refuse, below_floor: refuse}\n"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetHost]:
    folder = tmp_path_factory.mktemp("revert")
    with fleethost.running(folder) as host:
        old, new = filesystem(folder, "old", OLD), filesystem(folder, "new", NEW)
        host.policy(POLICY)
        image = host.image(NAME, old)
        host.define(NAME, image)
        with host.up():
            for state, snapshot in ((old, BEFORE), (new, PATCHED)):
                host.virsh("destroy", NAME, check=False)
                host.write(image, state)
                host.virsh("start", NAME)
                host.goes_on(NAME)
                host.virsh("snapshot-create-as", NAME, snapshot)
            host.sends(NAME)
            yield host


@pytest.fixture
def patched(host: FleetHost) -> FleetHost:
    """The host whose machine runs patched, with an open network and all snapshots read."""
    revert(host, PATCHED)
    host.sends(NAME)
    host.wait_for_verdict(f"{NAME}@{BEFORE}", "drifting")
    return host


@pytest.fixture(scope="module")
def old(host: FleetHost) -> Path:
    return host.folder / "old.fs"


@pytest.fixture(scope="module")
def new(host: FleetHost) -> Path:
    return host.folder / "new.fs"


def revert(host: FleetHost, snapshot: str) -> str:
    """Revert with virsh, as soon as the machine is not held for a scan, and return what it says."""

    def asked() -> str:
        done = host.virsh("snapshot-revert", NAME, snapshot, "--running", check=False)
        return done.stderr if "undercroft" in done.stderr else "" if done.returncode else "done"

    said: str = host.wait(asked, f"it is reverted to {snapshot}")
    return said.strip()


def quieted(host: FleetHost) -> int:
    """Pause the guest, and return how many packets it has sent."""
    host.virsh("suspend", NAME)
    seen = host.packets(NAME)
    host.wait(lambda: host.packets(NAME) == seen, "what was on its way is there")
    return host.packets(NAME)


def rested(host: FleetHost) -> None:
    """Wait until the machine was read and is not held any more: QEMU 7.2 dies of a `loadvm` while it is."""

    def read_at() -> Any:
        with host.records() as records, records.reading() as record:
            (machine,) = record.find_machines(NAME)
            scan = record.scan(f"machine:{machine.domain.uuid}")
            begun = record.own_executions(machine.domain.uuid, 1)[0].started_at
            return scan.scanned_at if scan and scan.scanned_at > begun else None

    seen = None
    while seen is None or seen != read_at():
        seen = host.wait(read_at, "the running machine is read")
        time.sleep(1)


def executions(host: FleetHost) -> list[dict[str, Any]]:
    """Return the executions, in order of their start."""
    found: list[dict[str, Any]] = host.document("lineage", NAME)["executions"]
    return found


def log(host: FleetHost, kind: str) -> list[str]:
    with host.records() as records, records.reading() as record:
        return [entry.body for entry in record.log_entries() if entry.kind == kind]


def test_a_revert_below_the_floor_is_refused_and_the_guest_runs_on(patched: FleetHost) -> None:
    host = patched
    ident = host.virsh("domid", NAME).stdout
    done = host.undercroft("revert", NAME, BEFORE)
    assert done.returncode == REFUSED
    assert CVE in done.stdout
    assert f"not reverted to '{BEFORE}'" in done.stderr
    assert host.virsh("domid", NAME).stdout == ident
    host.goes_on(NAME)
    host.sends(NAME)


def test_a_revert_by_virsh_ends_in_quarantine_and_not_one_packet_leaves(patched: FleetHost) -> None:
    host = patched
    seen = quieted(host)
    revert(host, BEFORE)
    assert host.closed(NAME), "before the guest ran"
    host.goes_on(NAME)
    host.wait_for_verdict(NAME, "quarantined")
    host.goes_on(NAME)
    assert host.packets(NAME) == seen
    last = executions(host)[-1]
    assert last["execution"]["origin"] == "revert"
    assert last["began_from"]["name"] == BEFORE
    assert CVE in host.undercroft("machine", NAME).stdout

    revert(host, PATCHED)  # to a good one: the port opens again
    host.sends(NAME)
    host.wait_for_verdict(NAME, "steady")


def test_control_without_undercroft_virsh_brings_the_hole_back_onto_the_network(patched: FleetHost) -> None:
    host = patched
    with host.without():
        quieted(host)
        revert(host, BEFORE)
        host.sends(NAME)
        host.tell(NAME, "grep -m1 ^Version /mnt/var/lib/dpkg/status")
        assert f"Version: {OLD}" in host.serial(NAME).read_text()


def test_where_the_policy_refuses_what_virsh_reverts_to_it_is_off_and_was_never_heard(
    patched: FleetHost,
) -> None:
    host = patched
    seen = quieted(host)
    host.policy(STRICT)
    try:
        host.wait_for_action(f"{NAME}@{BEFORE}", "refuse")
        said = revert(host, BEFORE)
        host.wait(lambda: host.virsh("domstate", NAME).stdout.strip() == "shut off", f"it is off: {said}")
        assert host.packets(NAME) == seen
    finally:
        host.policy(POLICY)
        host.wait_for_action(f"{NAME}@{BEFORE}", "quarantine")


def test_an_order_that_overrides_passes_once_and_is_on_record(patched: FleetHost) -> None:
    host = patched
    done = host.undercroft("revert", NAME, BEFORE, "--anyway", "--reason", "database lost")
    assert done.returncode == 0, done.stderr
    host.sends(NAME)
    assert any("database lost" in body and '"done"' in body for body in log(host, "revert"))
    assert any("database lost" in body for body in log(host, "decision"))

    quieted(host)
    seen = host.packets(NAME)
    revert(host, BEFORE)  # control: the order was for that one alone
    host.goes_on(NAME)
    host.wait_for_verdict(NAME, "quarantined")
    assert host.packets(NAME) == seen


def test_a_state_that_is_loaded_inside_the_process_is_seen_and_quarantined(patched: FleetHost) -> None:
    host = patched
    before = executions(host)[-1]["execution"]
    rested(host)
    done = host.virsh("qemu-monitor-command", "--hmp", NAME, f"loadvm {BEFORE}")
    assert not done.stdout.strip(), "the state is loaded"
    host.wait(lambda: host.closed(NAME), "its network is closed")
    last = executions(host)[-1]["execution"]
    assert (last["origin"], last["parent"], last["certain"]) == ("load", before["eid"], False)
    host.wait_for_verdict(NAME, "quarantined")


def test_a_saved_machine_is_restored_into_its_quarantine(patched: FleetHost) -> None:
    host = patched
    revert(host, BEFORE)
    host.wait(lambda: host.closed(NAME), "its network is closed")
    host.virsh("managedsave", NAME)
    seen = host.packets(NAME)
    host.virsh("start", NAME)
    assert host.closed(NAME)
    host.goes_on(NAME)
    assert host.packets(NAME) == seen
    assert [one["execution"]["origin"] for one in executions(host)[-2:]] == ["revert", "restore"]


def test_a_revert_of_a_machine_that_is_off_is_seen_by_nothing_but_its_disk(
    host: FleetHost, old: Path, new: Path
) -> None:
    image = host.image("db-01", old)
    host.define("db-01", image)
    host.virsh("snapshot-create-as", "db-01", "cold")
    host.write(image, new)
    host.virsh("start", "db-01")
    assert not host.closed("db-01")
    host.virsh("destroy", "db-01")
    host.virsh("snapshot-revert", "db-01", "cold")  # no hook, no start, and nobody has read the disk
    host.wait_for_verdict("db-01", "quarantined")
    host.virsh("start", "db-01")
    assert host.closed("db-01")
    assert "lacks what the machine had fixed" in host.undercroft("machine", "db-01").stdout
    started: dict[str, Any] = host.document("lineage", "db-01")["executions"][-1]
    assert (started["execution"]["origin"], started["began_from"]["name"]) == ("revert", "cold")
    host.forget("db-01")
