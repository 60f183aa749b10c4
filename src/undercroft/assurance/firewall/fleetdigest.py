"""SHA-256 over the machines that a proof is about, kept up to date while single ports change."""

import hashlib
from bisect import bisect_left, insort

from undercroft.firewall.fleet import Elsewhere, Fleet, Port


class FleetDigest:
    """Digest of a fleet: of what its elements follow from, in any order of its machines."""

    def __init__(self, fleet: Fleet) -> None:
        """Take a fleet."""
        self._host = repr((fleet.host, sorted(map(str, fleet.host_addresses)))).encode()
        self._parts = sorted([*map(_of_port, fleet.ports), *map(_of_elsewhere, fleet.elsewhere)])

    def replace(self, before: Port | None, after: Port | None) -> None:
        """Take a port out, where it is in, and another one in."""
        if before is not None:
            part = _of_port(before)
            place = bisect_left(self._parts, part)
            if self._parts[place : place + 1] == [part]:
                del self._parts[place]
        if after is not None:
            insort(self._parts, _of_port(after))

    def hexdigest(self) -> str:
        """Return it in hexadecimal."""
        return hashlib.sha256(b"\n".join((self._host, *self._parts))).hexdigest()


def _of_port(port: Port) -> bytes:
    """All fields as text that has neither "|" nor a line's end in it."""
    ipv4 = ",".join([f"{int(address):08x}" for address in port.ipv4])
    ipv6 = ",".join([f"{int(address):032x}" for address in port.ipv6])
    labels = ",".join(sorted(port.labels))
    arriving = "arriving" if port.arriving else ""
    return f"{port.tap!r}|{port.mac.hex()}|{port.machine!r}|{labels!r}|{arriving}|{ipv4}|{ipv6}".encode()


def _of_elsewhere(machine: Elsewhere) -> bytes:
    return repr((machine.machine, sorted(machine.labels), sorted(map(str, machine.addresses)))).encode()
