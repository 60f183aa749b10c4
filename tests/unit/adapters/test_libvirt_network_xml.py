"""A libvirt network's XML: whose addresses its reservations are."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from undercroft.adapters.libvirt import network_xml
from undercroft.adapters.libvirt.network_xml import NetworkDefinition, parse_network
from undercroft.errors import InputError

MAC = "52:54:00:aa:00:01"
MAC_IN_DUID = "52:54:0:aa:0:1"


def network(*hosts: str) -> str:
    return (
        "<network><name>lab</name><bridge name='virbr7'/><ip address='192.0.2.1' netmask='255.255.255.0'>"
        f"<dhcp><range start='192.0.2.2' end='192.0.2.99'/>{''.join(hosts)}</dhcp></ip></network>"
    )


def reserved(*hosts: str) -> dict[str, tuple[str, ...]]:
    found = parse_network(network(*hosts))
    assert (found.bridge, found.problems) == ("virbr7", ())
    return dict(found.reserved)


def test_a_reservation_is_of_the_mac_that_it_names() -> None:
    assert reserved(
        "<host mac='52:54:00:AA:00:01' name='web' ip='192.0.2.8'/>",
        f"<host mac='{MAC}' ip='192.0.2.7'/>",
        "<host mac='52:54:00:aa:00:02' ip='192.0.2.9'><lease expiry='1' unit='hours'/></host>",
    ) == {MAC: ("192.0.2.7", "192.0.2.8"), "52:54:00:aa:00:02": ("192.0.2.9",)}


@pytest.mark.parametrize("duid", [f"0:3:0:1:{MAC_IN_DUID}", f"0:1:0:1:18:aa:62:fe:{MAC_IN_DUID}"])
def test_an_ipv6_reservation_is_of_the_mac_that_its_duid_is_made_of(duid: str) -> None:
    assert reserved(f"<host id='{duid.upper()}' ip='2001:DB8::7'/>") == {MAC: ("2001:db8::7",)}


@pytest.mark.parametrize(
    "named",
    [
        "name='web01'",
        "",
        "id='0:2:0:0:9:bf:1:2:3:4'",  # DUID-EN: a vendor's number
        f"id='0:3:0:6:{MAC_IN_DUID}'",  # another hardware's
        f"id='0:4:0:1:18:aa:62:fe:{MAC_IN_DUID}'",
        f"id='0:1:0:1:{MAC_IN_DUID}'",
        "id='x'",
    ],
)
def test_one_that_names_no_mac_is_nobodys(named: str) -> None:
    assert reserved(f"<host {named} ip='2001:db8::7'/>") == {}


def test_a_reservation_that_cannot_be_is_told_and_the_others_hold() -> None:
    found = parse_network(
        network(
            "<host mac='52:54:00:aa:00:09' name='a' ip='224.0.0.1'/>",
            "<host mac='ff:ff:ff:ff:ff:ff' name='b' ip='192.0.2.9'/>",
            f"<host mac='{MAC}' ip='192.0.2.7'/>",
            "<host mac='52:54:00:aa:00:0a' name='only-a-name'/>",
        )
    )
    assert dict(found.reserved) == {MAC: ("192.0.2.7",)}
    assert [problem.split(":")[0] for problem in found.problems] == ["reservation of a", "reservation of b"]


def test_a_network_without_bridge_and_reservations_says_nothing() -> None:
    assert parse_network("<network><name>x</name></network>") == NetworkDefinition()


def test_endless_reservations_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_xml, "MAX_RESERVATIONS", 2)
    with pytest.raises(InputError, match="more than 2 reservations"):
        parse_network(network(*[f"<host mac='{MAC}' ip='192.0.2.{number}'/>" for number in range(3)]))


_TEXT = st.text(st.characters(exclude_characters="<>&'\"", exclude_categories=["C"]), max_size=60)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(untrusted: str) -> None:
    with suppress(InputError):
        parse_network(untrusted)


@given(_TEXT, _TEXT, _TEXT)
def test_any_reservation_is_read_or_told(mac: str, duid: str, address: str) -> None:
    found = parse_network(network(f"<host mac='{mac}' id='{duid}' ip='{address}'/>"))
    assert len(found.reserved) + len(found.problems) <= 1
