"""Addresses that one machine can have as its own, from texts that people, libvirt or the record give."""

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from undercroft.errors import InputError

Address = IPv4Address | IPv6Address

MAX_ADDRESS_CHARACTERS = 45
"""Of the longest way to write an IPv6 address."""

MAX_REMEMBERED = 1 << 16
"""Addresses of machines: all of them are read at every look at the fleet."""

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_NOBODYS = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("127.0.0.0/8"),
    IPv4Network("224.0.0.0/3"),
    IPv6Network("::/127"),
    IPv6Network("::ffff:0:0/96"),
    IPv6Network("fe80::/10"),
    IPv6Network("ff00::/8"),
)
"""Unspecified, loopback, multicast, reserved, broadcast, IPv4 in IPv6, and link-local, which a machine has by
its MAC and not by anybody's word. Source: RFC 6890."""


@lru_cache(MAX_REMEMBERED)
def own_address(untrusted_text: str) -> Address:
    """Return an address that a machine can have.

    Raises:
        InputError: it is no address, has a zone ("%eth0"), or is one that no machine has for itself.
    """
    try:
        if len(untrusted_text) > MAX_ADDRESS_CHARACTERS or "%" in untrusted_text:
            raise ValueError
        found = ip_address(untrusted_text)
    except ValueError:
        raise InputError(
            f"address {untrusted_text[:80]!r}: one address is possible, such as 192.0.2.7 or 2001:db8::7"
        ) from None
    for network in _NOBODYS:
        if found.version == network.version and found in network:
            raise InputError(f"address {found}: no machine can have it, it lies in {network}")
    return found


def own_mac(untrusted_text: str) -> str:
    """Return an interface's MAC in lower case. Raises InputError for what is none, or of a group."""
    text = untrusted_text.lower()
    if not _MAC.fullmatch(text) or int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise InputError(f"MAC {untrusted_text[:40]!r}: one such as 52:54:00:12:34:56 is possible")
    return text


def claimed(untrusted_text: str) -> tuple[str, Address]:
    """Return (MAC, address) of one entry of `Ownership.addresses`; "" for the first interface's.

    Raises:
        InputError: it is neither ADDRESS nor ADDRESS@MAC.
    """
    address, at, mac = untrusted_text.partition("@")
    return (own_mac(mac) if at else ""), own_address(address)


def claim(mac: str, address: Address) -> str:
    """Return the entry of `Ownership.addresses` that says so: the other way of `claimed`."""
    return f"{address}@{mac}" if mac else str(address)
