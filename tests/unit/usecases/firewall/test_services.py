"""Sets of services: held to sets of single ports."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from undercroft.firewall.policy import Protocol, Service
from undercroft.usecases.firewall.services import includes, merged, without


@st.composite
def services(draw: st.DrawFn) -> Service:
    protocol = draw(st.sampled_from(list(Protocol)))
    if protocol is Protocol.ICMP:
        return Service(protocol)
    low = draw(st.integers(1, 40))
    return Service(protocol, low, draw(st.integers(low, 41)))


several = st.lists(services(), max_size=6)


def ports(found: tuple[Service, ...] | list[Service]) -> set[tuple[Protocol, int]]:
    return {(service.protocol, port) for service in found for port in range(service.low, service.high + 1)}


@given(several)
def test_merged_services_are_the_same_ports_and_never_touch(found: list[Service]) -> None:
    joined = merged(found)
    assert ports(joined) == ports(found)
    assert list(joined) == sorted(joined)
    assert all(
        one.protocol is not other.protocol or one.high + 1 < other.low for one, other in pairwise(joined)
    )


@given(several, several)
def test_without_leaves_the_ports_that_are_not_removed(found: list[Service], removed: list[Service]) -> None:
    assert ports(without(found, removed)) == ports(found) - ports(removed)


@given(several, services())
def test_services_include_one_whose_ports_are_all_there(found: list[Service], wanted: Service) -> None:
    assert includes(found, wanted) == (ports([wanted]) <= ports(found))
