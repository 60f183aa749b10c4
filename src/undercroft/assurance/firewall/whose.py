"""Whose a packet from outside is: what its source address says, as a mark, and whether that can be."""

from collections.abc import Sequence

from undercroft.assurance.firewall.places import FORGED, WORLD_MARK, Place
from undercroft.assurance.firewall.reading import Field, Reading
from undercroft.assurance.firewall.running import host_order
from undercroft.assurance.firewall.senders import ARP, IPV4, IPV6, hides_more6
from undercroft.assurance.firewall.terms import (
    TRUE,
    Bytes,
    Truth,
    both,
    chosen,
    constant,
    either,
    equal,
    negated,
)
from undercroft.firewall.policy import Network


def whose(reading: Reading, places: Sequence[Place], mark: Field) -> tuple[Truth, Field]:
    """Return whether a packet from outside may be anybody's, and that one's mark.

    Args:
        reading: the packet.
        places: all sides.
        mark: that it bears; it keeps it where it is no plain IP or ARP.
    """
    source4, source6, sender = reading.network(12, 4), reading.network(8, 16), reading.network(14, 4)
    form4 = both(reading.holds(IPV4), negated(_has_options(reading)))
    form6 = both(reading.holds(IPV6), negated(_bad_header6(reading)))
    known4, mark4 = _by_address(reading, 4, source4, wide_zones(places, 4))
    known6, mark6 = _by_address(reading, 6, source6, wide_zones(places, 6))
    known_arp, mark_arp = _by_address(reading, 4, sender, ())
    after = chosen(form4, mark4, chosen(form6, mark6, chosen(reading.holds(ARP), mark_arp, mark.data)))
    known = either([both(form4, known4), both(form6, known6), both(reading.holds(ARP), known_arp)])
    return known, Field(after)


def wide_zones(places: Sequence[Place], version: int) -> list[Place]:
    """Return zones of more than one address, the smallest first; single ones are elements of sets."""
    return [
        place
        for place in places
        if place.network is not None
        and place.network.version == version
        and place.network.prefixlen < place.network.max_prefixlen
    ]


def in_network(reading: Reading, offset: int, network: Network) -> Truth:
    """Return whether the address at an offset lies in a network; the bytes that tell so have to be there."""
    whole, rest = divmod(network.prefixlen, 8)
    packed = network.network_address.packed
    if rest:
        address = reading.network(offset, len(packed))
        mask = 0xFF00 >> rest & 0xFF
        start = equal(address.data[:whole], packed[:whole]) if whole else TRUE
        return both(address.there, start, equal((address.data[whole] & mask,), packed[whole : whole + 1]))
    return reading.network(offset, whole).reads(packed[:whole]) if whole else TRUE


def _has_options(reading: Reading) -> Truth:
    first = reading.network(0, 1)
    return both(first.there, negated(first.reads(b"\x45")))


def _bad_header6(reading: Reading) -> Truth:
    following = reading.network(6, 1)
    unknown = both(following.there, negated(reading.in_set("headers6", following)))
    return either([unknown, hides_more6(reading)])


def _by_address(
    reading: Reading, version: int, address: Field, zones: Sequence[Place]
) -> tuple[Truth, Bytes]:
    """The mark of an address, and whether it comes from where it may."""
    machine = reading.in_set(f"outside{version}", address)
    named = reading.in_set(f"named-sources{version}", address)
    mark = constant(host_order(WORLD_MARK))
    for place in reversed(zones):
        assert place.network is not None
        inside = in_network(reading, 12 if version == 4 else 8, place.network)
        mark = chosen(inside, constant(host_order(place.mark)), mark)
    mark = chosen(named, reading.sets.data(f"named-sources{version}", address.data), mark)
    mark = chosen(machine, reading.sets.data(f"outside{version}", address.data), mark)
    return negated(equal(mark, host_order(FORGED))), mark
