"""Frames are parsed as the kernel does, and whatever they hold."""

import pytest
from firewallworld import ip_packet
from hypothesis import given, settings
from hypothesis import strategies as st

from undercroft.firewall.packets import parse

ETHER = bytes(12)
A, B = bytes(range(16)), bytes(16)


def ipv6(following, payload):
    return parse(ETHER + b"\x86\xdd" + ip_packet(6, A, B, following, payload))


@pytest.mark.parametrize(
    ("following", "payload", "protocol", "offset"),
    [
        (6, bytes(20), 6, 54),
        (0, bytes([6, 1]) + bytes(14) + bytes(20), 6, 70),
        (51, bytes([17, 4]) + bytes(22) + bytes(8), 17, 78),
        (44, bytes([6, 0, 0, 1]) + bytes(4) + bytes(20), 6, 62),
        (44, bytes([6, 0, 0, 8]) + bytes(4) + bytes(20), 6, None),
        (44, bytes([60, 0, 0, 8]) + bytes(4) + bytes(20), None, None),
        (44, bytes([59, 0, 0, 8]) + bytes(4) + bytes(20), 59, None),
        (59, bytes(8), 59, 54),
        (60, b"\x06", None, None),
        (43, b"\x06\0\0", None, None),
        (50, bytes(20), 50, 54),
    ],
)
def test_extension_headers_lead_to_the_transport_header(following, payload, protocol, offset):
    packet = ipv6(following, payload)
    assert (packet.protocol, packet.transport_offset) == (protocol, offset)


def test_lengths_that_do_not_fit_leave_no_transport_header():
    whole = ETHER + b"\x08\0" + ip_packet(4, A[:4], B[:4], 6, bytes(20))
    assert parse(whole).protocol == 6
    assert parse(whole[:-1]).protocol is None
    assert parse(whole + bytes(6)).protocol == 6
    assert parse(whole[:14] + b"\x44" + whole[15:]).protocol is None
    assert parse(whole[:14] + b"\x65" + whole[15:]).protocol is None


def test_one_tag_is_taken_off_and_still_read_as_sent():
    packet = parse(ETHER + b"\x81\0\0\x05\x08\0" + ip_packet(4, A[:4], B[:4], 17, bytes(8)))
    assert (packet.outer_type, packet.ether_type, packet.protocol) == (0x8100, 0x0800, 17)
    assert packet.link(12, 6) == b"\x81\0\0\x05\x08\0"
    twice = parse(ETHER + b"\x88\xa8\0\x05\x81\0\0\x05\x08\0" + bytes(40))
    assert (twice.ether_type, twice.protocol) == (0x8100, None)
    assert parse(ETHER + b"\x81\0\0") is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=120), st.sampled_from([b"", b"\x08\0", b"\x86\xdd", b"\x81\0\0\0\x86\xdd"]))
def test_any_bytes_are_parsed_within_their_bounds(data, ether_type):
    packet = parse(ETHER + ether_type + data)
    if packet is None:
        assert len(ETHER + ether_type + data) < 18
    elif packet.transport_offset is not None:
        assert packet.network_offset < packet.transport_offset
        assert packet.transport(0, 200) is None
