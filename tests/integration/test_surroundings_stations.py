"""Whoever sends with a machine's MAC elsewhere gets what is for the machine, unless its place is fixed."""

from dataclasses import replace

import portlab
import pytest
from filterproofs import DB, WEB, port, ruleset
from netns import in_own_network
from portlab import BRIDGE, TAPS, UPLINK, heard, plugged, run, segment

from undercroft.adapters.nftables import Nftables
from undercroft.adapters.surroundings import gather
from undercroft.adapters.surroundings.shielding import shield, shield_tap
from undercroft.assurance.firewall.surroundings import Danger, judge
from undercroft.errors import NotFoundError
from undercroft.firewall.fleet import Port

DATABASE, SHOP = port(1, DB), port(3, WEB)
ASKS = segment(SHOP, DATABASE, 5432)
ANSWERS = segment(DATABASE, SHOP, 40_000)
LLDP = bytes.fromhex("0180c200000e")


def claim(group: bytes = LLDP) -> bytes:
    """A frame to a group that the bridge keeps for itself: no hook sees it, and the bridge learns from it."""
    return group + DATABASE.mac + b"\x88\xcc" + bytes(46)


def spoken(frame: bytes, port_name: str) -> None:
    with plugged(port_name) as mouth:
        mouth.send(frame)


def told(*ports: Port) -> list[tuple[Danger, str]]:
    taps = [one.tap for one in ports]
    findings = judge(gather("undercroft", taps, (), {one.tap: one.mac for one in ports}))
    return [(one.danger, one.found) for one in findings if "its machine" in one.found]


@in_own_network
def test_a_frame_from_the_uplink_with_a_machines_mac_takes_what_is_for_it_until_its_place_is_fixed() -> None:
    portlab.make_bridge()
    with Nftables() as kernel:
        kernel.replace(ruleset(3))
        for tap in TAPS:
            shield_tap(tap)
        assert heard(ASKS, SHOP.tap, DATABASE.tap)
        assert [danger for danger, _ in told(DATABASE)] == [Danger.DISTURBANCE]
        spoken(claim(), UPLINK)
        # The attack: the machine is taken to be beyond the uplink, and so is what others send it.
        assert not heard(ASKS, SHOP.tap, DATABASE.tap)
        assert told(DATABASE) == [
            (Danger.COPY, f"{BRIDGE} sends what is for its machine ({DATABASE.mac.hex(':')}) out of {UPLINK}")
        ]
        shield(DATABASE)
        assert told(DATABASE) == []
        assert heard(ASKS, SHOP.tap, DATABASE.tap)
        spoken(claim(), UPLINK)
        spoken(DATABASE.mac + DATABASE.mac + ASKS[12:], UPLINK)
        assert heard(ASKS, SHOP.tap, DATABASE.tap)
        assert told(DATABASE) == []


@in_own_network
def test_control_a_place_that_is_only_static_is_moved_all_the_same() -> None:
    portlab.make_bridge()
    run(f"bridge fdb replace {DATABASE.mac.hex(':')} dev {DATABASE.tap} master static")
    assert heard(ASKS, SHOP.tap, DATABASE.tap)
    spoken(claim(), UPLINK)
    assert not heard(ASKS, SHOP.tap, DATABASE.tap)


@in_own_network
def test_the_place_of_a_machine_that_is_arriving_is_where_it_speaks_and_then_here() -> None:
    portlab.make_bridge()
    coming = replace(DATABASE, arriving=True)
    for before in (None, DATABASE):
        if before is not None:
            shield(before)
        shield(coming)
        shield(coming)
        spoken(claim(), UPLINK)
        assert not heard(ASKS, SHOP.tap, DATABASE.tap), "it runs beyond the uplink still"
    shield(DATABASE)
    assert heard(ASKS, SHOP.tap, DATABASE.tap)


@in_own_network
def test_a_mac_that_was_fixed_elsewhere_is_fixed_at_its_new_port() -> None:
    portlab.make_bridge()
    shield(DATABASE)
    shield(replace(DATABASE, tap=SHOP.tap))
    assert not heard(ANSWERS[:6] + SHOP.mac + ANSWERS[12:], UPLINK, DATABASE.tap)
    spoken(claim(), UPLINK)
    assert told(replace(DATABASE, tap=SHOP.tap)) == []


@in_own_network
def test_a_device_that_is_on_no_bridge_is_left_and_one_that_is_gone_is_told() -> None:
    portlab.make_bridge()
    run(f"ip link set {DATABASE.tap} nomaster")
    shield(DATABASE)
    assert told(DATABASE) == []
    run(f"ip link del {DATABASE.tap}")
    with pytest.raises(NotFoundError, match=DATABASE.tap):
        shield(DATABASE)
