"""Words of nft for what a rule is made of: fields, values, verdicts and statements."""

import sys
from ipaddress import ip_address

from undercroft.firewall.kernel import (
    FIELD_BYTES,
    Base,
    Counter,
    Expression,
    Immediate,
    Limit,
    Log,
    Meta,
    Payload,
    Unknown,
    Verdict,
)

_NAMES = {
    (Base.LINK, 0, 6): ("ether daddr", "ether_addr"),
    (Base.LINK, 6, 6): ("ether saddr", "ether_addr"),
    (Base.NETWORK, 12, 4): ("ip saddr", "ipv4_addr"),
    (Base.NETWORK, 16, 4): ("ip daddr", "ipv4_addr"),
    (Base.NETWORK, 8, 16): ("ip6 saddr", "ipv6_addr"),
    (Base.NETWORK, 24, 16): ("ip6 daddr", "ipv6_addr"),
    (Base.NETWORK, 14, 4): ("arp saddr ip", "ipv4_addr"),
    (Base.NETWORK, 24, 4): ("arp daddr ip", "ipv4_addr"),
    (Base.NETWORK, 8, 6): ("arp saddr ether", "ether_addr"),
    (Base.NETWORK, 9, 1): ("ip protocol", "inet_proto"),
    (Base.NETWORK, 6, 1): ("ip6 nexthdr", "inet_proto"),
    (Base.TRANSPORT, 0, 2): ("th sport", "inet_service"),
    (Base.TRANSPORT, 2, 2): ("th dport", "inet_service"),
}
"""Base, offset and length -> nft's name, and the kind of its values."""
_BASES = {Base.LINK: "ll", Base.NETWORK: "nh", Base.TRANSPORT: "th"}
STATES = {1: "invalid", 2: "established", 4: "related", 8: "new", 64: "untracked"}
_UNITS = {1: "second", 60: "minute", 3600: "hour", 86400: "day"}

Field = Payload | Meta
"""What an operand is loaded from."""


def named(load: Payload, kind: str) -> str | None:
    """Return nft's name of bytes of a packet that are of this kind, None where it has none."""
    name, its_kind = _NAMES.get((load.base, load.offset, load.length), ("", ""))
    return name if its_kind == kind else None


def kind(load: Payload) -> str:
    """Return the kind that bytes of a packet have by their name in nft, "" without one."""
    return _NAMES.get((load.base, load.offset, load.length), ("", ""))[1]


def raw(load: Payload) -> str:
    """Return bytes of a packet by base, offset and length in bits."""
    return f"@{_BASES[load.base]},{load.offset * 8},{load.length * 8}"


def statement(expression: Expression) -> str:
    """Return what ends a rule or tells of it; "" for what is no statement."""
    match expression:
        case Immediate(given):
            return verdict(given)
        case Limit(rate=rate, per_s=per_s, burst=burst):
            return f"limit rate {rate}/{_UNITS.get(per_s, 'second')} burst {burst} packets"
        case Log(group=group, prefix=prefix, snap_bytes=snap_bytes):
            snap = f" snaplen {snap_bytes}" if snap_bytes else ""
            return f"log prefix {quoted(prefix)} group {group}{snap}"
        case Counter():
            return "counter"
        case Unknown(name=name):
            return f"# {name}: not known"
        case _:
            return ""


def meta(load: Meta) -> str:
    """Return what is known of a packet beside its bytes."""
    name = load.key.value
    return name if name in {"iifname", "oifname", "iif", "oif"} else f"meta {name}"


def meta_value(load: Meta, data: bytes) -> str:
    """Return what that is compared with; a device's name that is cut short ends with "*"."""
    name = load.key.value
    if name in {"iifname", "oifname", "iifkind", "oifkind"}:
        star = "" if len(data) == FIELD_BYTES["ifname"] else "*"
        return quoted(data.rstrip(b"\0").decode() + star)
    order = "big" if name == "protocol" else sys.byteorder
    return f"{int.from_bytes(data, order):#x}"


def value(kind: str, data: bytes) -> str:
    """Return a value of one of `FIELD_BYTES`' kinds."""
    match kind:
        case "ifname":
            return quoted(data.rstrip(b"\0").decode())
        case "ether_addr":
            return data.hex(":")
        case "ipv4_addr" | "ipv6_addr":
            return str(ip_address(data))
        case "mark":
            return f"{int.from_bytes(data, sys.byteorder):#010x}"
        case _:
            return str(int.from_bytes(data, "big"))


def number(data: bytes) -> str:
    """Return bytes as a number, the first being the highest."""
    return f"{int.from_bytes(data, 'big'):#x}"


def verdict(given: Verdict) -> str:
    """Return a verdict, with its chain where it has one."""
    return f"{given.code} {given.chain}" if given.chain else given.code.value


def quoted(text: str) -> str:
    """Return a text in quotes."""
    return f'"{text}"'
