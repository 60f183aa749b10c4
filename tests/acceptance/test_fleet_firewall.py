"""The firewall as an administrator has it: a policy is applied, and real guests on a real bridge meet it."""

import shutil
import signal
import subprocess
from collections.abc import Iterator

import filteredhost
import fleethost
import hookhost
import outside
import pytest
from filteredhost import ADDRESSES, GATE, HARMLESS, MIRROR, alarms, asks, begin, hearing, mac_of, sent
from fleethost import FleetHost
from outside import World

MISSING = fleethost.missing() or ("" if shutil.which("nft") else "nft is missing: apt-get install nftables")
pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.xdist_group("fleet-firewall"),
    pytest.mark.skipif(bool(MISSING), reason=MISSING or "libvirt can be run"),
]


@pytest.fixture(scope="module")
def joined(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FleetHost, World]]:
    with filteredhost.running(tmp_path_factory.mktemp("firewall")) as both:
        both[0].undercroft("firewall", "apply", "--reason", "the issue's", check=True)
        yield both


@pytest.fixture(scope="module")
def world(joined: tuple[FleetHost, World]) -> World:
    return joined[1]


@pytest.fixture(scope="module")
def fleet(joined: tuple[FleetHost, World]) -> Iterator[FleetHost]:
    """The host with web01 and db01, which run and are steady."""
    host, _ = joined
    for name in ("web01", "db01"):
        begin(host, name)
    for name in ("web01", "db01"):
        host.goes_on(name)
    yield host
    for name in ("web01", "db01"):
        host.forget(name)


def state(host: FleetHost) -> dict[str, object]:
    with host.records() as records, records.reading() as record:
        (found,) = record.filter_states()
    return {"number": found.number, "problem": found.problem, "proven": found.proven_at is not None}


def in_order(host: FleetHost) -> bool:
    found = state(host)
    return bool(found["proven"]) and not found["problem"]


def test_the_issue_s_policy_lets_pass_what_it_allows_and_nothing_else(fleet: FleetHost, world: World) -> None:
    web, db = ADDRESSES["web01"], ADDRESSES["db01"]
    with world.serving(GATE, 443):
        assert world.reaches(web, 443)
        assert asks(fleet, "web01", db, 5432)
        assert not world.reaches(web, 22)
        assert not world.reaches(db, 5432), "never"
        assert not asks(fleet, "web01", db, 22)
        assert not asks(fleet, "db01", web, 443)
        assert not asks(fleet, "web01", GATE, 443)
    fleet.wait(lambda: in_order(fleet), "the kernel's table is proven")


def test_a_guest_that_takes_another_address_is_not_heard(fleet: FleetHost, world: World) -> None:
    with hearing(fleet, world, "spoofed") as ear:
        fleet.tell("web01", "ip addr add 192.0.2.99/24 dev eth0")
        assert not asks(fleet, "web01", GATE, 443, "192.0.2.99")
        fleet.tell("web01", "arping -c 2 -w 2 -U -I eth0 192.0.2.99; ip addr del 192.0.2.99/24 dev eth0")
        assert world.reaches(ADDRESSES["web01"], 443), "with its own it is"
    forged = bytes((192, 0, 2, 99)).hex()
    heard = [frame for source, _, frame in ear.frames() if source == mac_of("web01")]
    assert heard
    assert not [frame for frame in heard if forged in frame[12:]]


def test_not_one_denied_packet_leaves_a_guest_from_its_first_on_nor_the_next_one_on_its_tap(
    fleet: FleetHost, world: World
) -> None:
    devices = hookhost.interface(mac_of("web03")).replace("<model", "<target dev='tap7'/><model")
    with hearing(fleet, world, "first") as ear:
        begin(fleet, "web03", devices=devices)
        fleet.wait(lambda: world.reaches(ADDRESSES["web03"], 443), "it is reached")
        fleet.wait(lambda: fleet.alive("web03") >= 6, "it has sent for a while")
        fleet.forget("web03")
        fleet.define("db02", fleet.image("db02", fleet.folder / "new.fs"), devices)
        fleet.virsh("start", "db02")
        fleet.goes_on("db02")
        assert not world.reaches(ADDRESSES["web03"], 443), "the tap's name is a db's now, without an address"
        fleet.forget("db02")
    assert sent(ear, "web03") <= HARMLESS, "it asks for who may ask it"


def test_a_quarantined_guest_reaches_the_mirror_alone_and_a_released_one_has_its_flows(
    fleet: FleetHost, world: World
) -> None:
    begin(fleet, "web02", "old")
    fleet.wait_for_verdict("web02", "quarantined")
    fleet.goes_on("web02")
    assert fleet.on_bridge("web02", mac_of("web02"))
    with world.serving(MIRROR, 443), world.serving(GATE, 443):
        assert asks(fleet, "web02", MIRROR, 443)
        assert not asks(fleet, "web02", GATE, 443)
        assert not asks(fleet, "web02", ADDRESSES["db01"], 5432)
        assert not world.reaches(ADDRESSES["web02"], 443)
        fleet.undercroft("release", "web02", "--reason", "tonight", "--anyway", check=True)
        fleet.wait(lambda: world.reaches(ADDRESSES["web02"], 443), "the world reaches it")
        assert asks(fleet, "web02", ADDRESSES["db01"], 5432)
        assert not asks(fleet, "web02", MIRROR, 443)
    fleet.forget("web02")


def test_the_agent_killed_leaves_the_rules_and_open_flows_outlive_its_return(
    fleet: FleetHost, world: World
) -> None:
    web, db = ADDRESSES["web01"], ADDRESSES["db01"]
    with world.connected(web, 443) as flow:
        assert outside.echoes(flow)
        fleet.stop_agent(signal.SIGKILL)
        assert outside.echoes(flow)
        assert world.reaches(web, 443)
        assert not world.reaches(db, 5432)
        begin(fleet, "web03")
        assert fleet.closed("web03", mac_of("web03")), "nobody has labels for it"
        fleet.start_agent()
        assert outside.echoes(flow)
        assert not world.reaches(db, 5432)
        fleet.wait(lambda: world.reaches(ADDRESSES["web03"], 443), "it has its labels and is opened")
        assert outside.echoes(flow)
    fleet.forget("web03")


@pytest.mark.parametrize("order", ["delete table bridge undercroft", "flush table bridge undercroft"])
def test_who_takes_the_table_away_is_seen_and_undone(fleet: FleetHost, world: World, order: str) -> None:
    fleet.wait(lambda: in_order(fleet), "it is in order before")
    before = len(alarms(fleet))
    subprocess.run([*fleet.daemon.inside_network, "nft", *order.split()], check=True)
    seen = "has changed the firewall's table"
    fleet.wait(lambda: any(seen in reason for reason in alarms(fleet)[before:]), "it is seen")
    fleet.wait(lambda: not world.reaches(ADDRESSES["db01"], 5432), "it is closed again")
    fleet.wait(lambda: in_order(fleet), "and proven")
    assert world.reaches(ADDRESSES["web01"], 443)


def test_control_once_the_policy_is_withdrawn_the_same_packets_arrive(fleet: FleetHost, world: World) -> None:
    fleet.undercroft("firewall", "apply", "--withdraw", "--reason", "control", check=True)
    assert world.reaches(ADDRESSES["db01"], 5432)
    with hearing(fleet, world, "control") as ear:
        fleet.tell("web01", "ip addr add 192.0.2.99/24 dev eth0; ping -c 1 -w 1 -I 192.0.2.99 192.0.2.1")
        fleet.wait(lambda: "ipv4" in sent(ear, "web01"), "it is heard")
    assert [frame for _, _, frame in ear.frames() if bytes((192, 0, 2, 99)).hex() in frame[12:]]
