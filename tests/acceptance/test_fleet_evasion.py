"""What an administrator with virsh does to a machine in quarantine, to get its packets out all the same."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fleethost
import hookhost
import pytest
import taps
from fleethost import FleetHost
from fleetstates import NEW, OLD, filesystem, mac_of

MISSING = fleethost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-evasion"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

OTHER_BRIDGE = "lab1"
POLICY = "version: 1\ndefaults: {drifting: quarantine}\n"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FleetHost]:
    folder = tmp_path_factory.mktemp("evasion")
    with fleethost.running(folder) as host:
        filesystem(folder, "old", OLD)
        filesystem(folder, "new", NEW)
        host.policy(POLICY)
        taps.make_bridge(host.daemon.inside_network, OTHER_BRIDGE)
        with host.up():
            yield host


@pytest.fixture
def held(host: FleetHost) -> Iterator[str]:
    """A machine that runs in quarantine."""
    name = "web-01"
    host.define(name, host.image(name, host.folder / "old.fs"))
    host.virsh("start", name)
    host.wait_for_verdict(name, "quarantined")
    assert host.closed(name)
    yield name
    host.forget(name)


def device(host: FleetHost, xml: str) -> str:
    path = host.folder / "device.xml"
    path.write_text(xml)
    return str(path)


def alarms(host: FleetHost) -> list[str]:
    with host.records() as records, records.reading() as record:
        entries = record.log_entries(0, 10_000)
    return [json.loads(entry.body)["reason"] for entry in entries if entry.kind == "alarm"]


def test_a_way_out_that_cannot_be_closed_is_an_alarm_and_stops_the_machine(
    host: FleetHost, held: str
) -> None:
    xml = device(host, "<interface type='user'><model type='virtio'/></interface>")
    host.virsh("attach-device", held, xml, "--live")
    host.wait(lambda: host.virsh("domstate", held).stdout.strip() == "shut off", "it is stopped")
    assert any("a way out that stays open: an interface of type 'user'" in reason for reason in alarms(host))


def test_an_interface_that_is_plugged_in_is_closed_and_the_machine_goes_on(
    host: FleetHost, held: str
) -> None:
    mac = mac_of("web-01-second")
    host.virsh("attach-device", held, device(host, hookhost.interface(mac)), "--live")
    host.wait(lambda: len(open_taps(host, held)) == 0, "both are closed")
    assert host.virsh("domstate", held).stdout.strip() == "running"


def test_a_tap_that_libvirt_moves_to_another_bridge_stays_closed(host: FleetHost, held: str) -> None:
    xml = device(host, hookhost.interface(mac_of(held), OTHER_BRIDGE))
    host.virsh("update-device", held, xml, "--live")
    host.wait(lambda: host.closed(held), "it is taken off again")
    host.virsh("domif-setlink", held, mac_of(held), "up")
    host.goes_on(held)
    assert host.closed(held)
    assert host.packets(held) == 0


def test_a_machine_whose_definition_is_removed_while_it_runs_stays_closed(host: FleetHost, held: str) -> None:
    host.virsh("undefine", held)
    host.goes_on(held)
    assert host.closed(held)
    host.stop_agent()
    host.start_agent()
    host.goes_on(held)
    assert host.closed(held)
    assert host.packets(held) == 0
    with host.records() as records, records.reading() as record:
        assert len(record.holds()) == 1


def test_a_machine_that_the_agent_does_not_read_in_time_is_not_heard_before_it_has(host: FleetHost) -> None:
    states = {"slow-old": "old", "slow-new": "new"}
    for name, state in states.items():
        host.define(name, host.image(name, host.folder / f"{state}.fs"))
    with standing_still(host):
        for name in states:
            host.virsh("start", name)
        assert all(host.closed(name) for name in states), "by policy an agent that is away would let both in"
    host.sends("slow-new")
    host.wait_for_verdict("slow-old", "quarantined")
    assert host.closed("slow-old")
    assert host.packets("slow-old") == 0
    for name in states:
        host.forget(name)


@contextmanager
def standing_still(host: FleetHost) -> Iterator[None]:
    """Let the agent be there and answer nobody, as with an image that takes long to read."""
    assert host.agent is not None
    children = Path(f"/proc/{host.agent.pid}/task/{host.agent.pid}/children").read_text().split()
    for child in children:
        os.kill(int(child), signal.SIGSTOP)
    try:
        yield
    finally:
        for child in (*children, host.agent.pid):  # nsenter stops with its child
            os.kill(int(child), signal.SIGCONT)


def open_taps(host: FleetHost, name: str) -> list[str]:
    """Return the taps of a machine that are up or on a bridge."""
    lines = host.virsh("domiflist", name).stdout.splitlines()[2:]
    names = [line.split()[0] for line in lines if line.strip()]
    command = [*host.daemon.inside_network, "ip", "-j", "link"]
    shown = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return [link["ifname"] for link in shown if link["ifname"] in names and opened(link)]


def opened(link: dict[str, object]) -> bool:
    return "master" in link or "UP" in link["flags"]  # type: ignore[operator]
