"""The hook under a real libvirtd: what virsh shows, what reaches the bridge, what it finds at a restore."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import guests
import hookhost
import pytest
import taps
from hookhost import BRIDGE, HookHost, interface

from undercroft.adapters import hookfiles
from undercroft.agent.admissionserver import Answer
from undercroft.model.fleet import HeldTap

MISSING = hookhost.missing()
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("hook"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

MAC = "52:54:00:00:20:07"
OPEN = """
import sys
from undercroft.adapters import netlink
from undercroft.model.fleet import HeldTap
netlink.open_tap(HeldTap(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def host() -> Iterator[HookHost]:
    with hookhost.running() as running:
        yield running


@pytest.fixture
def folder(host: HookHost, request: pytest.FixtureRequest) -> Path:
    """A folder of the test's own that libvirt's QEMU can look into."""
    path = host.daemon.images / request.node.name[:40]
    path.mkdir()
    path.chmod(0o777)
    return path


def test_a_refused_machine_does_not_start_and_virsh_shows_the_reason(host: HookHost) -> None:
    host.define("refused")
    with host.agent(hookhost.REFUSE).running() as agent:
        done = host.virsh("start", "refused", check=False)
    assert done.returncode == 1
    assert "undercroft: refused may not start: openssl is unpatched: CVE-2099-1" in done.stderr
    assert host.virsh("domstate", "refused").stdout.strip() == "shut off"
    assert agent.steps("refused")[0] == "prepare begin"
    assert "start begin" not in agent.steps("refused")
    assert host.spooled() == []


def test_an_allowed_machine_starts_and_its_events_bear_one_execution(host: HookHost) -> None:
    ident = host.define("allowed")
    with host.agent().running() as agent:
        host.virsh("start", "allowed")
        host.virsh("destroy", "allowed")
    assert agent.steps("allowed") == [
        *("prepare begin", "start begin", "started begin", "stopped end", "release end")
    ]
    (eid,) = {event.eid for event in agent.events}
    assert len(eid) == 32
    assert {event.uuid for event in agent.events} == {ident}
    assert len({event.ident for event in agent.events}) == 5
    assert "<name>allowed</name>" in agent.events[0].xml
    assert list((host.state / "run").iterdir()) == []


def test_not_one_packet_of_a_quarantined_machine_reaches_the_bridge_until_its_tap_is_opened(
    host: HookHost, folder: Path
) -> None:
    ident, serial = host.define_talking("closed", MAC, folder)
    with taps.listening(host.daemon.inside_network, BRIDGE, folder / "heard") as ear:
        with host.agent(hookhost.QUARANTINE).running():
            host.virsh("start", "closed")
            guests.wait_for(serial, "SENT 2")
        (tap,) = taps_of(host)
        before = ear.frames()
        note = hookfiles.read_note(host.state, ident)
        assert note is not None
        host.run(sys.executable, "-c", OPEN, note.taps[0].tap, note.taps[0].bridge)
        hookhost.wait_until(lambda: MAC in ear.sources())
        host.virsh("destroy", "closed")
    assert before == []
    assert "master" not in tap
    assert "UP" not in tap["flags"]


def test_control_without_the_hook_the_same_machine_s_packets_reach_the_bridge(tmp_path: Path) -> None:
    with hookhost.running(hook=False) as open_host:
        _, serial = open_host.define_talking("open", MAC, open_host.daemon.images)
        with taps.listening(open_host.daemon.inside_network, BRIDGE, tmp_path / "heard") as ear:
            open_host.virsh("start", "open")
            guests.wait_for(serial, "SENT 2")
        protocols = {protocol for source, protocol, _ in ear.frames() if source == MAC}
    assert {"0x0806", "0x86dd"} <= protocols  # ARP, and IPv6's own first words


def test_not_one_packet_of_a_quarantined_restore_reaches_the_bridge(host: HookHost, folder: Path) -> None:
    _, serial = host.define_talking("resumed", MAC, folder)
    with host.agent().running() as agent:
        host.virsh("start", "resumed")
        guests.wait_for(serial, "SENT 1")
        host.virsh("managedsave", "resumed")
        agent.answer = hookhost.QUARANTINE
        serial.unlink()
        with taps.listening(host.daemon.inside_network, BRIDGE, folder / "heard") as ear:
            host.virsh("start", "resumed")
            hookhost.wait_until(lambda: len([x for x in guests.lines(serial) if x.startswith("SENT")]) >= 2)
            host.virsh("destroy", "resumed")
        assert ear.frames() == []
    assert [event.save is not None for event in agent.events if event.operation == "restore"] == [True]


def test_control_an_allowed_machine_s_tap_stays_on_its_bridge(host: HookHost) -> None:
    host.define("onbridge", interface(MAC))
    with host.agent().running():
        host.virsh("start", "onbridge")
        (tap,) = taps_of(host)
        host.virsh("destroy", "onbridge")
    assert tap["master"] == BRIDGE
    assert "UP" in tap["flags"]


def test_a_tap_of_a_libvirt_network_is_held_too(host: HookHost) -> None:
    network = host.daemon.images / "lab.xml"
    network.write_text(
        f"<network><name>lab</name><forward mode='bridge'/><bridge name='{BRIDGE}'/></network>"
    )
    host.virsh("net-create", str(network))
    ident = host.define("networked", "<interface type='network'><source network='lab'/></interface>")
    with host.agent(hookhost.QUARANTINE).running():
        host.virsh("start", "networked")
        (tap,) = taps_of(host)
        note = hookfiles.read_note(host.state, ident)
        host.virsh("destroy", "networked")
    assert "master" not in tap
    assert note is not None
    assert note.taps == (HeldTap(str(tap["ifname"]), BRIDGE),)


def test_the_agent_finds_the_bridge_of_a_held_tap_in_the_hook_s_note(host: HookHost) -> None:
    ident = host.define("noted", interface(MAC))
    with host.agent(hookhost.HOLD).running() as agent:
        host.virsh("start", "noted")
        note = hookfiles.read_note(host.state, ident)
        (tap,) = taps_of(host)
        host.virsh("destroy", "noted")
    assert note is not None
    assert note.taps == (HeldTap(str(tap["ifname"]), BRIDGE),)
    assert (note.eid, note.closed, note.hold) == (agent.events[0].eid, True, True)
    assert hookfiles.read_note(host.state, ident) is None


def test_a_held_tap_stays_held_when_libvirt_s_daemon_comes_back(host: HookHost) -> None:
    host.define("survivor", interface(MAC))
    with host.agent(hookhost.QUARANTINE).running() as agent:
        host.virsh("start", "survivor")
        host.restart_daemon()  # which puts every tap onto its bridge again
        agent.wait_for("survivor", "reconnect begin")
        (tap,) = taps_of(host)
        host.virsh("destroy", "survivor")
    assert "master" not in tap
    assert "UP" not in tap["flags"]


def test_an_incoming_migration_is_refused_while_its_source_goes_on_and_held_where_it_is_quarantined(
    host: HookHost,
) -> None:
    host.define("mover", interface(MAC))
    with hookhost.running() as target:
        move = ("migrate", "--live", "--p2p", "mover", target.daemon.uri)
        way = ("--migrateuri", f"unix://{target.daemon.images}/migration")  # nothing leaves this machine
        target.daemon.images.chmod(0o777)
        with host.agent().running(), target.agent(hookhost.REFUSE).running() as agent:
            host.virsh("start", "mover")
            refused = host.virsh(*move, *way, check=False)
            still = host.virsh("domstate", "mover").stdout.strip()
            assert "mover may not start: openssl is unpatched" in refused.stderr
            assert still == "running"
            agent.answer = hookhost.QUARANTINE
            host.virsh(*move, *way)
            (tap,) = taps_of(target)
        assert target.virsh("domstate", "mover").stdout.strip() == "running"
    assert agent.steps("mover")[-4:] == ["migrate begin", "prepare begin", "start begin", "started begin"]
    assert "master" not in tap
    assert "UP" not in tap["flags"]


@pytest.mark.parametrize("answer", [hookhost.QUARANTINE, hookhost.HOLD])
def test_an_interface_that_cannot_be_held_is_refused(host: HookHost, answer: Answer) -> None:
    name = f"usermode-{answer.action}"
    host.define(name, "<interface type='user'/>")
    with host.agent(answer).running():
        done = host.virsh("start", name, check=False)
    assert "unenforceable" in done.stderr
    assert "an interface of type 'user'" in done.stderr


def test_control_an_interface_that_cannot_be_held_is_none_of_an_allowed_machine_s_concerns(
    host: HookHost,
) -> None:
    host.define("usermode", "<interface type='user'/>")
    with host.agent().running():
        host.virsh("start", "usermode")
        host.virsh("destroy", "usermode")


def test_a_save_image_restored_twice_is_told_as_the_same_both_times(host: HookHost, folder: Path) -> None:
    host.define("forked")
    image = folder / "forked.save"
    with host.agent().running() as agent:
        host.virsh("start", "forked")
        host.virsh("save", "forked", str(image))
        for _ in range(2):
            host.virsh("restore", str(image))
            host.virsh("destroy", "forked")
    first, second = [event.save for event in agent.events if event.operation == "restore"]
    assert first is not None
    assert first == second
    with image.open("rb") as file:
        assert hookfiles.save_sample(file.fileno()) == first.sample
    found = image.stat()
    assert (first.path, first.device, first.inode) == (str(image), found.st_dev, found.st_ino)
    assert len({event.eid for event in agent.events if event.eid}) == 3


def test_without_the_agent_a_start_is_refused_with_the_cure_and_goes_on_record_later(host: HookHost) -> None:
    host.define("lonely")
    done = host.virsh("start", "lonely", check=False)
    assert "the agent is away" in done.stderr
    assert "systemctl start undercroft" in done.stderr
    with host.agent().running() as agent:
        pass
    prepared = [event for event in agent.events if event.operation == "prepare" and event.sub == "begin"]
    assert [(event.alone, event.decided) for event in prepared] == [(True, "refuse")]
    assert host.spooled() == []


def test_the_hook_opens_nothing_of_libvirt_s_and_talks_to_nobody_but_the_agent(
    host: HookHost, folder: Path
) -> None:
    script = folder / "traced"
    trace = folder / "trace"
    hook = host.hooks / "qemu.d" / "undercroft"
    script.write_text(
        "#!/bin/sh\n"
        f"exec strace -f -qq -e trace=connect,execve,fork,vfork -o {trace}.$$"
        ' /etc/libvirt/hooks/qemu.d/undercroft.real "$@"\n'
    )
    script.chmod(0o755)
    hook.rename(hook.with_name("undercroft.real"))
    script.replace(hook)
    try:
        host.define("traced", interface(MAC))
        with host.agent(hookhost.QUARANTINE).running():
            host.virsh("start", "traced")
            host.virsh("destroy", "traced")
    finally:
        hook.with_name("undercroft.real").replace(hook)
    calls = [line for path in folder.glob("trace.*") for line in path.read_text().splitlines()]
    connected = {line.split('"')[1] for line in calls if "connect(" in line}
    assert connected == {host.settings.socket}
    assert len([line for line in calls if "execve(" in line]) == 5  # itself, once a call


def taps_of(host: HookHost) -> list[dict[str, Any]]:
    return [link for name, link in host.links().items() if name.startswith("vnet")]
