"""Frames in words."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.cli.render.escape import harmless
from undercroft.cli.render.frame import frame_lines
from undercroft.firewall.policy import Service
from undercroft.firewall.shapes import service
from undercroft.usecases.firewall.frames import Ends, answer, opening

MAC1, MAC2 = bytes.fromhex("525400000001"), bytes.fromhex("525400000002")
ENDS4 = Ends(MAC1, MAC2, ip_address("10.0.0.1"), ip_address("10.0.0.2"))
ENDS6 = Ends(MAC1, MAC2, ip_address("2001:db8::1"), ip_address("2001:db8::2"))


def one(text: str) -> Service:
    found = service(text)
    assert isinstance(found, Service)
    return found


@pytest.mark.parametrize(
    ("ends", "asked", "lines"),
    [
        (ENDS4, "tcp/5432", ("IPv4, 54 bytes", "10.0.0.1 to 10.0.0.2", "tcp port 40000 to 5432, SYN")),
        (ENDS6, "udp/53", ("IPv6, 62 bytes", "2001:db8::1 to 2001:db8::2", "udp port 40000 to 53")),
        (ENDS4, "icmp", ("IPv4", "10.0.0.1 to 10.0.0.2", "icmp echo request")),
        (ENDS6, "icmp", ("IPv6", "2001:db8::1 to 2001:db8::2", "icmpv6 echo request")),
        (ENDS4, "sctp/7", ("IPv4", "10.0.0.1 to 10.0.0.2", "sctp port 40000 to 7")),
    ],
)
def test_each_header_is_a_line(ends: Ends, asked: str, lines: tuple[str, ...]) -> None:
    found = list(frame_lines(opening(ends, one(asked))))
    assert found[0].startswith("from 52:54:00:00:00:01 to 52:54:00:00:00:02")
    assert lines[0] in found[0]
    assert tuple(found[1:]) == lines[1:]


def test_an_answer_goes_the_other_way() -> None:
    found = list(frame_lines(answer(ENDS4, one("tcp/22"))))
    assert found[1:] == ["10.0.0.2 to 10.0.0.1", "tcp port 22 to 40000, SYN ACK"]


def test_tags_fragments_and_arp_are_told() -> None:
    frame = opening(ENDS4, one("udp/53"))
    tagged = frame[:12] + bytes.fromhex("81000007") + frame[12:]
    assert "VLAN tag 7 (0x8100)" in list(frame_lines(tagged))
    later = frame[:20] + b"\x00\x02" + frame[22:]
    assert list(frame_lines(later))[1:] == [
        "10.0.0.1 to 10.0.0.2, a later fragment, at byte 16",
        "udp, without a header of its own",
    ]
    arp = MAC2 + MAC1 + bytes.fromhex("08060001080006040001") + MAC1 + bytes([10, 0, 0, 1]) + bytes(6)
    assert list(frame_lines(arp + bytes([10, 0, 0, 2])))[1] == "10.0.0.1: who has 10.0.0.2"


@given(
    st.binary(max_size=80), st.sampled_from([b"", b"\x08\x00\x45", b"\x86\xdd\x60", b"\x08\x06", b"\x81\x00"])
)
def test_any_bytes_are_told_without_an_error_and_harmlessly(untrusted: bytes, kind: bytes) -> None:
    for line in frame_lines(untrusted[:12] + kind + untrusted[12:]):
        assert harmless(line) == line
