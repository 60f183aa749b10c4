"""A concrete packet out of what Z3 found: the frame's bytes, where it comes in and where it goes out."""

import sys
from collections.abc import Collection

import z3

from undercroft.assurance.firewall.contents import OpenSets
from undercroft.assurance.firewall.examplepacket import Example
from undercroft.assurance.firewall.packet import EXTENSIONS, FRAGMENT, IPV4, SymbolicPacket
from undercroft.assurance.firewall.reading import TAP
from undercroft.assurance.firewall.terms import Bytes, Truth, equal, joined
from undercroft.firewall.kernel import Hook

MAX_FRAME_BYTES = 1500
RESERVED_GROUP = 0x0180C20000
EXTENSION_BYTES = 8
IPV6_BYTES = 40
_TRANSPORT_BYTES = 64


def buildable(packet: SymbolicPacket) -> Truth:
    """Return what holds for packets that `example` can build: of moderate size, one extension header at most.

    What it leaves out is no less filtered; it only makes no example.
    """
    fragment = packet.network(6, 1)[0] == FRAGMENT
    later = z3.Implies(packet.walk_later, fragment)
    at_once = z3.Or(fragment, packet.walk_ends)
    offset = packet.walk_offset == IPV6_BYTES + EXTENSION_BYTES
    plain = z3.And(at_once, z3.Or(offset, packet.walk_later), later, _known_header(packet, fragment))
    target, source = packet.link[:6], packet.link[6:]
    return z3.And(
        z3.Not(packet.large),
        joined(packet.said) == joined(packet.kind),
        joined(target[:5]) != RESERVED_GROUP,  # a bridge keeps these for itself
        source[0] & 1 == 0,  # and drops frames from groups and from nobody
        joined(source) != 0,
        z3.ULE(packet.length, MAX_FRAME_BYTES),
        z3.Implies(packet.input_made, equal(packet.input_kind, TAP)),
        z3.Implies(packet.output_made, equal(packet.output_kind, TAP)),
        z3.Implies(packet.is_ipv6(), z3.Implies(packet.extended(), plain)),
    )


def _known_header(packet: SymbolicPacket, fragment: Truth) -> Truth:
    """A fragment header is followed by no other extension header."""
    following = packet.network(40, 1)[0]
    return z3.Implies(fragment, z3.And(*(following != kind for kind in EXTENSIONS)))


def example(
    packet: SymbolicPacket,
    model: z3.ModelRef,
    hooks: tuple[Hook, ...],
    sets: OpenSets,
    dynamic: Collection[str],
) -> Example:
    """Build the packet that a model describes.

    Args:
        packet: whose terms the model gives values to.
        model: of a formula in which `buildable` holds.
        hooks: that it passes.
        sets: what was asked.
        dynamic: names of dynamic sets.
    """
    tagged = z3.is_true(model.eval(packet.tagged, model_completion=True))
    tag = _value(model, packet.tag) if tagged else b""
    frame = _value(model, packet.link) + tag + _value(model, packet.kind) + _network(packet, model)
    incoming = hooks[0] is not Hook.OUTPUT
    outgoing = Hook.FORWARD in hooks or Hook.OUTPUT in hooks
    return Example(
        hooks,
        _name(_value(model, packet.input_name)) if incoming else "",
        _name(_value(model, packet.output_name)) if outgoing else "",
        frame,
        _number(_value(model, packet.mark)),
        _number(_value(model, packet.state)),
        tuple(
            (name, _value(model, key))
            for name, key, has in sets.asked(dynamic)
            if z3.is_true(model.eval(has, model_completion=True))
        ),
        _kind(model, packet.input_made) if incoming else "",
        _kind(model, packet.output_made) if outgoing else "",
    )


def _network(packet: SymbolicPacket, model: z3.ModelRef) -> bytes:
    """Lay the transport header over what follows the network header."""
    length = model.eval(packet.length, model_completion=True).as_long()
    data = bytearray(_value(model, packet.network(0, max(length, 1)))[:length])
    if z3.is_true(model.eval(packet.has_transport(), model_completion=True)):
        start = model.eval(packet.transport_offset(), model_completion=True).as_long()
        if _value(model, packet.kind) != IPV4 and data[6] in EXTENSIONS and data[6] != FRAGMENT:
            data[IPV6_BYTES:start] = _extension(packet, model)[: max(0, length - IPV6_BYTES)]
        later = z3.is_true(model.eval(packet.later_fragment(), model_completion=True))
        shown = b"" if later else _value(model, packet.transport(0, _TRANSPORT_BYTES))
        data[start : start + len(shown)] = shown[: max(0, length - start)]
    return bytes(data[:length])


def _extension(packet: SymbolicPacket, model: z3.ModelRef) -> bytes:
    """One extension header of 8 bytes that is none of a fragment."""
    following = model.eval(packet.walk_protocol, model_completion=True).as_long()
    return bytes([following, 0, 0, 0, 0, 0, 0, 0])


def _value(model: z3.ModelRef, data: Bytes) -> bytes:
    found = model.eval(joined(data), model_completion=True).as_long()
    return int(found).to_bytes(len(data), "big")


def _kind(model: z3.ModelRef, made: Truth) -> str:
    return _name(TAP) if z3.is_true(model.eval(made, model_completion=True)) else ""


def _name(name: bytes) -> str:
    return name.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _number(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder)
