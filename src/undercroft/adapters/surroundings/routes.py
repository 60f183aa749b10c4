"""Encapsulations of IPv6 routes, and tunnels: what gives a routed packet other headers between two hooks.

Source: include/uapi/linux/lwtunnel.h, nexthop.h, rtnetlink.h of Linux 6.18.
"""

import socket
import struct
import sys
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from undercroft.adapters.netlinkcodec import attributes
from undercroft.adapters.surroundings.links import Device
from undercroft.adapters.surroundings.rtnetlink import Routing
from undercroft.errors import OperationError

_GET_ROUTE, _GET_NEXT_HOP = 26, 106
_ROUTE = struct.Struct("=8BI")
_NEXT_HOP = struct.Struct("=4BI")
_PATH = struct.Struct("=HBBi")
_ROUTE_PATHS, _ROUTE_ENCAPSULATION, _NEXT_HOP_ENCAPSULATION = 9, 21, 7
_NAMES: Mapping[int, str] = MappingProxyType(
    {3: "ila", 4: "ip6", 5: "seg6", 6: "bpf", 7: "seg6local", 8: "rpl", 9: "ioam6"}
)
_HARMLESS = frozenset({0, 1, 2, 10})
"""None, MPLS, IPv4 and IPsec: they put a packet into another whole, and no header into it."""
_TUNNELS = frozenset(
    {
        *("vxlan", "geneve", "bareudp", "gtp", "l2tp", "amt", "gre", "gretap", "erspan", "ip6gre"),
        *("ip6gretap", "ip6erspan", "sit", "ipip", "ip6tnl"),
    }
)
"""Kinds at which a packet comes out of another with the mark of that."""


def read_encapsulations(kernel: Routing) -> tuple[str, ...]:
    """Return the kinds that there are, sorted. Raises DeniedError, OperationError."""
    found: set[int] = set()

    def of_route(answer: bytes) -> bool:
        found.update(_of_route(answer[_ROUTE.size :]))
        return False

    def of_next_hop(answer: bytes) -> bool:
        given = dict(attributes(answer[_NEXT_HOP.size :]))
        found.add(_number(given.get(_NEXT_HOP_ENCAPSULATION, b"")))
        return False

    kernel.dump(_GET_ROUTE, _ROUTE.pack(socket.AF_INET6, *(0,) * 8), "the IPv6 routes", of_route)
    kernel.dump(_GET_NEXT_HOP, _NEXT_HOP.pack(0, 0, 0, 0, 0), "the next hops", of_next_hop)
    return tuple(sorted(_NAMES.get(kind, f"kind {kind}") for kind in found - _HARMLESS))


def tunnels(devices: Iterable[Device]) -> tuple[str, ...]:
    """Return the tunnels among devices, with their kinds; the kernel makes some by itself, which are down."""
    return tuple(sorted(f"{one.name} ({one.kind})" for one in devices if one.up and one.kind in _TUNNELS))


def _of_route(data: bytes) -> set[int]:
    """Return the numbers of a route's encapsulations, of each of its paths."""
    given = dict(attributes(data))
    found = {_number(given.get(_ROUTE_ENCAPSULATION, b""))}
    paths, at = given.get(_ROUTE_PATHS, b""), 0
    while at < len(paths):
        size = _PATH.unpack_from(paths, at)[0] if len(paths) - at >= _PATH.size else 0
        if not _PATH.size <= size <= len(paths) - at:
            raise OperationError("netlink: the kernel sent a path of a route that cannot be read")
        path = dict(attributes(paths[at + _PATH.size : at + size]))
        found.add(_number(path.get(_ROUTE_ENCAPSULATION, b"")))
        at += (size + 3) & ~3
    return found


def _number(value: bytes) -> int:
    return int.from_bytes(value[:2], sys.byteorder)
