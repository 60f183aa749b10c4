"""A machine as the hook's XML and the record tell it together, without a call to libvirt."""

from dataclasses import replace

from recordvalues import UUID, domain, event

from undercroft.model.domain import Interface, Ownership
from undercroft.usecases.fleet.starts.hookdomain import hooked_domain

FIRST = Interface("52:54:00:00:00:01", "network", "lab", "virbr7", addresses=("192.0.2.7",))
SECOND = Interface("52:54:00:00:00:02", "network", "lab", "virbr7", addresses=("192.0.2.8",))
BEFORE = domain(1, "web01", interfaces=(FIRST, SECOND))


def hooked(*interfaces: str) -> tuple[Interface, ...]:
    xml = f"<domain id='3'><name>web01</name><uuid>{UUID}</uuid><devices>{''.join(interfaces)}</devices>"
    found = hooked_domain(event(name="web01", xml=f"{xml}</domain>"), BEFORE, {})
    return found.interfaces


def interface(mac: str, network: str = "lab", tap: str = "vnet0") -> str:
    return (
        f"<interface type='network'><mac address='{mac}'/><source network='{network}'/>"
        f"<target dev='{tap}'/></interface>"
    )


def test_reservations_come_from_the_record_by_mac_whatever_the_order() -> None:
    assert hooked(interface(SECOND.mac.upper()), interface(FIRST.mac, tap="vnet1")) == (
        replace(SECOND, tap="vnet0"),
        replace(FIRST, tap="vnet1"),
    )


def test_another_mac_or_network_has_none_until_libvirt_was_asked() -> None:
    found = hooked(interface("52:54:00:00:00:03"), interface(FIRST.mac, "other"), "<interface type='user'/>")
    assert [item.addresses for item in found] == [(), (), ()]


def test_the_metadatas_addresses_are_those_of_the_xml() -> None:
    xml = (
        f"<domain><name>web01</name><uuid>{UUID}</uuid><metadata><machine xmlns='urn:undercroft:machine:1'>"
        "<address>192.0.2.9</address></machine></metadata></domain>"
    )
    found = hooked_domain(event(name="web01", xml=xml), None, {})
    assert found.ownership == Ownership(addresses=("192.0.2.9",))
