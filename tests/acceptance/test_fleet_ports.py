"""Ports that come and go under the filter: cards that are plugged, machines saved, taps moved by hand.

Every guest pings the world from its first second on, which is denied: not one ping is ever heard.
"""

import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator

import filteredhost
import fleethost
import guests
import hookhost
import outside
import pytest
import taps
from filteredhost import (
    ADDRESSES,
    HARMLESS,
    MIRROR,
    alarms,
    asks,
    begin,
    hearing,
    link,
    mac_of,
    sent,
    tap_of,
)
from fleethost import BRIDGE, FleetHost
from outside import World

MISSING = fleethost.missing() or ("" if shutil.which("nft") else "nft is missing: apt-get install nftables")
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-ports"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]

SHIELDED = "group_fwd_mask 0xfffd"


@pytest.fixture(scope="module")
def filtered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FleetHost, World]]:
    """A host with the issue's policy in force, and web01, whose kernel boots again where it reboots."""
    with filteredhost.running(tmp_path_factory.mktemp("ports")) as (host, world):
        host.undercroft("firewall", "apply", "--reason", "ports", check=True)
        path, _ = host.described("web01", host.image("web01", host.folder / "new.fs"), card("web01"))
        path.write_text(path.read_text().replace("<on_reboot>destroy", "<on_reboot>restart"))
        host.virsh("define", str(path))
        host.virsh("start", "web01")
        host.wait(lambda: world.reaches(ADDRESSES["web01"], 443), "web01 is reached")
        yield host, world
        host.forget("web01")


def card(name: str) -> str:
    return hookhost.interface(mac_of(name))


def plug(host: FleetHost, name: str) -> None:
    host.virsh(
        "attach-interface", name, "bridge", BRIDGE, "--mac", mac_of(name), "--model", "virtio", "--live"
    )


def unplug(host: FleetHost, name: str) -> None:
    tap = tap_of(host, name)
    host.virsh("detach-interface", name, "bridge", "--mac", mac_of(name), "--live")
    host.wait(lambda: tap not in link(host, "show"), f"{tap} has gone")


def is_filtered(host: FleetHost, world: World, name: str) -> None:
    """Wait until a web server is reached; nothing else of it is then."""
    host.wait(lambda: world.reaches(ADDRESSES[name], 443), f"{name} is reached")
    assert not world.reaches(ADDRESSES[name], 22)
    assert SHIELDED in link(host, "show", tap_of(host, name))


def test_a_card_that_a_running_guest_gets_is_closed_until_it_has_its_labels_and_again_when_plugged_anew(
    filtered: tuple[FleetHost, World],
) -> None:
    host, world = filtered
    with hearing(host, world, "plugged") as ear:
        begin(host, "web02", devices="<!-- no card -->")
        host.goes_on("web02")
        plug(host, "web02")
        is_filtered(host, world, "web02")
        unplug(host, "web02")
        plug(host, "web02")
        is_filtered(host, world, "web02")
        unplug(host, "web02")
        heard = len(ear.frames())
        host.stop_agent(signal.SIGKILL)
        plug(host, "web02")
        seen = host.alive("web02")
        host.wait(lambda: host.alive("web02") > seen + 4, "it sends for a while")
        nobody = [source for source, _, _ in ear.frames()[heard:] if source == mac_of("web02")]
        assert nobody == [], "nobody has labels for it"
        host.start_agent()
        is_filtered(host, world, "web02")
    assert "answers" in sent(ear, "web02") <= HARMLESS
    host.forget("web02")


def test_a_card_that_a_guest_in_quarantine_gets_reaches_the_mirror_alone_from_its_first_packet(
    filtered: tuple[FleetHost, World],
) -> None:
    host, world = filtered
    with hearing(host, world, "quarantined") as ear, world.serving(MIRROR, 443):
        begin(host, "web03", "old", devices="<!-- no card -->")
        host.wait_for_verdict("web03", "quarantined")
        host.goes_on("web03")
        plug(host, "web03")
        is_quarantined(host, world, "web03")
        unplug(host, "web03")
        host.stop_agent(signal.SIGKILL)
        plug(host, "web03")
        assert not asks(host, "web03", MIRROR, 443), "nobody has labels for it"
        host.start_agent()
        host.wait(lambda: asks(host, "web03", MIRROR, 443), "it has them again")
    assert receivers(ear, "web03") == {MIRROR}, "the world that it pings is denied it"
    host.forget("web03")


def is_quarantined(host: FleetHost, world: World, name: str) -> None:
    """Wait until a web server in quarantine reaches the mirror; nothing else passes then."""
    host.wait(lambda: asks(host, name, MIRROR, 443), f"{name} reaches the mirror")
    assert not world.reaches(ADDRESSES[name], 443)
    assert host.on_bridge(name, mac_of(name)), "its labels keep it, not a hold off its bridge"
    assert SHIELDED in link(host, "show", tap_of(host, name))


def receivers(ear: taps.Ear, name: str) -> set[str]:
    """Return to whom packets of IPv4 of a machine were heard."""
    frames = [bytes.fromhex(frame) for source, _, frame in ear.frames() if source == mac_of(name)]
    return {socket.inet_ntoa(frame[30:34]) for frame in frames if frame[12:14] == b"\x08\x00"}


@pytest.mark.parametrize(
    "way", [pytest.param("save", marks=pytest.mark.soak), "managedsave", "suspend", "reboot"]
)
def test_a_guest_that_goes_on_is_filtered_from_its_first_packet_and_its_open_flow_goes_on_too(
    filtered: tuple[FleetHost, World], way: str
) -> None:
    host, world = filtered
    path = str(host.daemon.images / "web01.save")
    orders = {
        "save": (("save", "web01", path), ("restore", path)),
        "managedsave": (("managedsave", "web01"), ("start", "web01")),
        "suspend": (("suspend", "web01"), ("resume", "web01")),
        "reboot": (("reset", "web01"),),
    }
    with hearing(host, world, way) as ear, world.connected(ADDRESSES["web01"], 443) as flow:
        assert outside.echoes(flow)
        seen = counted(host)
        for order in orders[way]:
            host.virsh(*order)
        host.wait(lambda: counted(host) > seen + 4, "it pings for a while")
        is_filtered(host, world, "web01")
        assert outside.echoes(flow) is (way != "reboot")
    assert "answers" in sent(ear, "web01") <= HARMLESS


def counted(host: FleetHost) -> int:
    """Return how often web01 has counted, before it booted again too."""
    return sum(line.startswith("ALIVE") for line in guests.lines(host.serial("web01")))


def test_a_tap_that_somebody_takes_off_its_bridge_and_puts_back_is_shielded_anew(
    filtered: tuple[FleetHost, World],
) -> None:
    host, world = filtered
    tap = tap_of(host, "web01")
    with hearing(host, world, "by-hand") as ear:
        link(host, "set", tap, "nomaster")
        assert not world.reaches(ADDRESSES["web01"], 443)
        link(host, "set", tap, "master", BRIDGE)
        host.wait(lambda: SHIELDED in link(host, "show", tap), "it is shielded")
        is_filtered(host, world, "web01")
    assert "answers" in sent(ear, "web01") <= HARMLESS


def test_a_tap_that_somebody_renames_is_closed_whatever_it_is_called_then(
    filtered: tuple[FleetHost, World],
) -> None:
    host, world = filtered
    tap = tap_of(host, "web01")
    with hearing(host, world, "renamed") as ear:
        for name in ("vnet99", "other0"):
            rename(host, tap, name)
            assert not world.reaches(ADDRESSES["web01"], 443), "it has no labels"
            seen = counted(host)
            host.wait(lambda seen=seen: counted(host) > seen + 3, "it pings for a while")
            rename(host, name, tap)
            is_filtered(host, world, "web01")
    assert "answers" in sent(ear, "web01") <= HARMLESS


def rename(host: FleetHost, tap: str, name: str) -> None:
    link(host, "set", tap, "down")
    link(host, "set", tap, "name", name)
    link(host, "set", name, "up")


def test_a_table_that_is_right_and_passed_by_is_not_called_proven(filtered: tuple[FleetHost, World]) -> None:
    host, world = filtered
    tap = tap_of(host, "web01")
    host.stop_agent()
    nft = [*host.daemon.inside_network, "nft"]
    device = f"type filter hook ingress device {tap} priority 0"
    rules = f"table netdev beside {{\nchain in {{\n{device}\nicmp type echo-request fwd to up0\n}}\n}}"
    with hearing(host, world, "beside") as ear:
        subprocess.run([*nft, rules], check=True)
        host.wait(lambda: "ipv4" in sent(ear, "web01"), "what is denied is heard")
        host.start_agent()
        told = host.wait(
            lambda: (done := host.undercroft("firewall", "status")).returncode == 1 and done, "it is told"
        )
    assert "void: passed by" in told.stdout
    assert "bypass around the table" in told.stdout
    assert any("the firewall is passed by" in reason for reason in alarms(host))
    subprocess.run([*nft, "delete table netdev beside"], check=True)
    assert host.undercroft("firewall", "prove", check=True).stdout.startswith("certified ")


def test_control_once_the_policy_is_withdrawn_the_same_pings_are_heard(
    filtered: tuple[FleetHost, World],
) -> None:
    host, world = filtered
    host.undercroft("firewall", "apply", "--withdraw", "--reason", "control", check=True)
    with hearing(host, world, "control") as ear:
        host.wait(lambda: "ipv4" in sent(ear, "web01"), "it is heard")
