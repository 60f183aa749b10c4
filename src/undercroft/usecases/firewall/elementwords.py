"""An element of the filter's sets in words: what its key says, field by field."""

import sys
from ipaddress import ip_address

from undercroft.firewall import marks
from undercroft.firewall.kernel import FIELD_BYTES, REGISTER_BYTES
from undercroft.firewall.sets import fixed_sets
from undercroft.firewall.tracking import StateKind

_SIDES = {
    "to": ("mark", "inet_proto", "inet_service"),
    "back": ("mark", "inet_proto", "inet_service"),
    "logged": ("mark", "inet_proto", "inet_service"),
    "ping": ("mark",),
    "pong": ("mark",),
    "near": ("mark",),
}
"""Keys of the sets that each target has, by what their names begin with."""
_PROTOCOLS = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}


def element_words(set_name: str, key: bytes) -> str:
    """Return what a key says: "class 4 tcp port 22"; in hexadecimal where its form is not known."""
    kinds = _kinds(set_name)
    lengths = [FIELD_BYTES[kind] for kind in kinds]
    steps = lengths
    if len(kinds) > 1:
        steps = [-(-length // REGISTER_BYTES) * REGISTER_BYTES for length in lengths]
    if not kinds or sum(steps) != len(key):
        return key.hex()
    starts = [sum(steps[:number]) for number in range(len(steps))]
    parts = zip(kinds, starts, lengths, strict=True)
    return " ".join(_word(kind, key[start : start + length]) for kind, start, length in parts)


def _kinds(set_name: str) -> tuple[str, ...]:
    fixed = {item.name: item.key for item in fixed_sets(StateKind.TUPLES)}
    return fixed.get(set_name) or _SIDES.get(set_name.partition("-")[0], ())


def _word(kind: str, data: bytes) -> str:
    number = int.from_bytes(data, "big")
    match kind:
        case "ifname":
            return data.partition(b"\0")[0].decode("utf-8", "backslashreplace")
        case "ether_addr":
            return data.hex(":")
        case "ipv4_addr" | "ipv6_addr":
            return str(ip_address(data))
        case "inet_proto":
            return _PROTOCOLS.get(number, f"protocol {number}")
        case "inet_service":
            return f"port {number}"
        case "mark":
            return _mark(int.from_bytes(data, sys.byteorder))
        case _:
            return f"{kind} {number}"


def _mark(mark: int) -> str:
    if mark & marks.KIND_MASK == marks.PREFIX | marks.MACHINE:
        return f"class {mark & marks.MAX_CLASS}"
    named = {marks.WORLD: "world", marks.HOST: "host", marks.FORGED: "forged"}
    return named.get(mark, f"mark 0x{mark:08x}")
