"""Services as sets: which ports two policies have in common, and which only one of them has. Pure."""

from collections.abc import Iterable

from undercroft.firewall.policy import Protocol, Service


def merged(services: Iterable[Service]) -> tuple[Service, ...]:
    """Return the same services in order, those that overlap or join as one."""
    found: list[Service] = []
    for service in sorted(set(services)):
        last = found[-1] if found else None
        if last and last.protocol is service.protocol and service.low <= last.high + 1:
            found[-1] = Service(last.protocol, last.low, max(last.high, service.high))
        else:
            found.append(service)
    return tuple(found)


def without(services: Iterable[Service], removed: Iterable[Service]) -> tuple[Service, ...]:
    """Return what is in `services` and not in `removed`, in order."""
    left = merged(services)
    for hole in merged(removed):
        left = tuple(rest for service in left for rest in _cut(service, hole))
    return left


def includes(services: Iterable[Service], wanted: Service) -> bool:
    """Tell whether every port of `wanted` is among `services`."""
    return not without((wanted,), services)


def _cut(service: Service, hole: Service) -> Iterable[Service]:
    if service.protocol is not hole.protocol or hole.high < service.low or service.high < hole.low:
        yield service
        return
    if service.protocol is Protocol.ICMP:
        return
    if service.low < hole.low:
        yield Service(service.protocol, service.low, hole.low - 1)
    if hole.high < service.high:
        yield Service(service.protocol, hole.high + 1, service.high)
