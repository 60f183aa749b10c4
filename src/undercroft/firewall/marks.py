"""The packet's mark, in which the filter keeps whose packet it is from the port to the verdict.

A mark is a prefix that no other program should use, a bit for machines, and a number. Only the filter sets
it; a mark with this prefix on a packet of any other port is removed before anything reads it.
"""

import sys
from ipaddress import IPv4Network, IPv6Network

PREFIX = 0x5543_0000
PREFIX_MASK = 0xFFFF_0000
MACHINE = 0x0000_8000
KIND_MASK = PREFIX_MASK | MACHINE
MAX_CLASS = 0x7FFF

FORGED = PREFIX
"""The address is that of a machine that runs on this host, and the packet comes from somewhere else."""

WORLD = PREFIX | 1
HOST = PREFIX | 2
_FIRST_ZONE = 16

NOWHERE: tuple[IPv4Network | IPv6Network, ...] = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("127.0.0.0/8"),
    IPv4Network("224.0.0.0/3"),
    IPv6Network("::/127"),
    IPv6Network("fe80::/10"),
    IPv6Network("ff00::/8"),
)
"""Addresses that are not of the world: unspecified, loopback, multicast, reserved, broadcast, link-local.

Source: RFC 6890.
"""


def of_class(number: int) -> int:
    """Return the mark of a class of machines, 1 to `MAX_CLASS`."""
    return PREFIX | MACHINE | number


def of_zone(index: int) -> int:
    """Return the mark of a zone, from 0."""
    return PREFIX | _FIRST_ZONE + index


def data(mark: int) -> bytes:
    """Return a mark, or a mask of marks, as a register holds it: in the host's order."""
    return mark.to_bytes(4, sys.byteorder)
