"""Messages of what the kernel of the tests lacks, by include/uapi/linux, and malformed ones."""

import contextlib
import struct
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.adapters.netlinkcodec import attribute, nested
from undercroft.adapters.nftables.wire import Channel, Request
from undercroft.adapters.surroundings import legacy, links, tables
from undercroft.adapters.surroundings.effects import effects_of
from undercroft.assurance.firewall.hostfacts import Flowtable
from undercroft.errors import OperationError


def device(name: str, index: int, *attributes: bytes) -> bytes:
    return (
        struct.pack("=BxHiII", 0, 1, index, 0, 0) + attribute(3, name.encode() + b"\0") + b"".join(attributes)
    )


def kind(name: str, *more: bytes) -> bytes:
    return nested(18, attribute(1, name.encode() + b"\0"), *more)


def number(attribute_kind: int, value: int) -> bytes:
    return attribute(attribute_kind, struct.pack("=I", value))


PORT = links.decode_device(device("vnet0", 5, number(10, 9)))
BRIDGE = links.decode_device(device("virbr0", 9, kind("bridge")))


@pytest.mark.parametrize("name", ["vlan", "macvlan", "macvtap", "ipvlan", "macsec", "new"])
def test_a_device_that_stands_on_a_port_takes_its_frames(name: str) -> None:
    upper = links.decode_device(device("upper0", 6, number(5, 5), kind(name)))
    (facts,) = links.port_facts([PORT], [PORT, BRIDGE, upper], ())
    assert facts.uppers == ("upper0",)


@pytest.mark.parametrize(
    "other",
    [
        device("pair0", 6, number(5, 5), kind("veth")),
        device("tunnel0", 6, number(5, 5), kind("vxlan")),
        # Its lower device has that number in another namespace.
        device("vlan0", 6, number(5, 5), number(37, 0), kind("vlan")),
    ],
)
def test_a_device_that_only_names_a_port_takes_nothing(other: bytes) -> None:
    (facts,) = links.port_facts([PORT], [PORT, BRIDGE, links.decode_device(other)], ())
    assert facts.uppers == ()


def test_a_port_of_a_switch_in_hardware_and_of_open_vswitch_are_told() -> None:
    port = links.decode_device(device("vnet0", 5, number(10, 9), attribute(36, b"\1\2")))
    switch = links.decode_device(device("ovs-system", 9, kind("openvswitch")))
    (facts,) = links.port_facts([port], [port, switch], ())
    assert facts.offloaded
    assert facts.bridge_kind == "openvswitch"


def test_a_port_without_the_bridges_word_about_it_forwards_no_group() -> None:
    (facts,) = links.port_facts([PORT], [PORT, BRIDGE], ())
    assert facts.group_forward_mask == 0


def expression(name: str, *attributes: bytes) -> bytes:
    return nested(1, attribute(1, name.encode() + b"\0"), nested(2, *attributes))


def big(attribute_kind: int, value: int) -> bytes:
    return attribute(attribute_kind, struct.pack(">I", value))


@pytest.mark.parametrize(
    ("listed", "effect"),
    [
        (expression("meta", big(2, 35), big(3, 8)), "broute"),
        (expression("meta", big(2, 99), big(3, 8)), "meta key 99"),
        (expression("meta", big(2, 3), big(1, 8)), ""),
        (expression("exthdr", big(3, 8)), "exthdr"),
        (expression("ct", big(2, 3), big(4, 8)), "ct mark"),
        (expression("target", attribute(1, b"arpreply\0")), "arpreply"),
        (expression("target", attribute(1, b"NEW\0")), "target NEW"),
        (expression("target", attribute(1, b"CHECKSUM\0")), ""),
        (expression("flow_offload", attribute(1, b"f\0")), "flow offload"),
        (expression("objref", big(1, 1)), ""),
        (expression("objref", big(2, 8)), "objects of a map"),
        (expression("new"), "expression new"),
        (nested(1, attribute(7, b"")), "an expression that cannot be read"),
    ],
)
def test_an_expression_that_is_not_known_to_be_harmless_has_an_effect(listed: bytes, effect: str) -> None:
    (found,) = effects_of(listed)
    assert found.name == effect


class FlowtableDump:
    """What a kernel with flow tables answers."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers

    def dump_families(self, request: Request) -> list[tuple[int, bytes]]:
        return [(1, answer) for answer in self._answers]


def test_a_flow_table_has_its_devices_and_those_that_a_prefix_stands_for() -> None:
    listed = nested(3, attribute(1, b"eth0\0"), attribute(2, b"vnet\0"))
    answer = attribute(1, b"t\0") + attribute(2, b"f\0") + nested(3, big(1, 0), big(2, 0), listed)
    without = attribute(1, b"t\0") + attribute(2, b"g\0") + nested(3, big(1, 0), big(2, 0))
    names = {1: "eth0", 2: "vnet0", 3: "vnet1", 4: "eth1"}
    dump = cast("Channel", FlowtableDump(answer, without))
    assert list(tables._flowtables(dump, names, frozenset())) == [
        Flowtable("inet", "t", "f", ("eth0", "vnet0", "vnet1")),
        Flowtable("inet", "t", "g", ()),
    ]
    assert list(tables._flowtables(dump, names, {("inet", "t")})) == []


@given(st.binary(max_size=200))
def test_any_bytes_as_expressions_are_effects_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(OperationError):
        list(effects_of(data))


@given(st.binary(min_size=16, max_size=200))
def test_any_bytes_as_a_device_are_one_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(OperationError):
        links.decode_device(data)


@given(st.binary(max_size=400), st.sampled_from([88, 140, 164]))
def test_any_bytes_as_entries_of_iptables_have_targets_or_are_an_error_of_ours(data: bytes, at: int) -> None:
    with contextlib.suppress(OperationError):
        list(legacy._targets(data, at))
