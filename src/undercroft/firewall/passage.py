"""Whether one IP packet passes between two ends: it opens, it answers, or it tells of what was opened."""

from undercroft.firewall.decisions import Decision, Remembered, Tuple
from undercroft.firewall.packets import IPV4, Packet
from undercroft.firewall.permission import End, Permission
from undercroft.firewall.policy import Flow

_ICMP, _TCP, _ICMPV6, _FRAGMENT = 1, 6, 58, 44
_ECHO_REQUEST = {4: (1, b"\x08\x00"), 6: (58, b"\x80\x00")}
_ECHO_REPLY = {4: (1, b"\x00\x00"), 6: (58, b"\x81\x00")}
_ERRORS = {4: (1, frozenset({3, 11, 12})), 6: (58, frozenset({1, 2, 3, 4}))}
_INNER_AFTER_IPV6 = frozenset({6, 17, 44, 58, 132})


class Passage:
    """One packet between two ends."""

    def __init__(
        self,
        permission: Permission,
        packet: Packet,
        source: End,
        target: End,
        remembered: Remembered,
    ) -> None:
        self._permission, self._packet = permission, packet
        self._source, self._target, self._remembered = source, target, remembered
        self._version = 4 if packet.ether_type == IPV4 else 6
        start, width = (12, 4) if self._version == 4 else (8, 16)
        self._from = packet.network(start, width) or b""
        self._to = packet.network(start + width, width) or b""

    def decision(self) -> Decision:
        """Return what becomes of it."""
        packet = self._packet
        if packet.protocol is None:
            return Decision(False, "no transport protocol that the kernel knows")
        opens, answers = self._opening(), self._answering()
        if opens:
            return Decision(True, "allowed", opens.place, self._opened())
        if answers:
            flow = self._as_sent() in self._remembered.answers
            waiting = self._as_sent() in getattr(self._remembered, _waiting(self._target))
            if not self._is("established", flow or waiting):
                return Decision(False, "answers to nothing that was opened")
            kept = self._memory("answers", self._as_sent())
            if not flow and self._refuses():
                kept = tuple(item for item in kept if item[0] == "pieces")
            return Decision(True, "an answer", answers.place, kept)
        return self._echo() or self._other()

    def _is(self, connection: str, in_sets: bool) -> bool:
        """Tell whether the host's way of keeping state knows the packet so."""
        if self._remembered.connection is None:
            return in_sets
        return self._remembered.connection == connection

    def _opening(self) -> Flow | None:
        port = self._packet.transport(2, 2)
        if port is None or self._packet.protocol is None:
            return None
        number = int.from_bytes(port, "big")
        return self._permission.allowing(self._source, self._target, self._packet.protocol, number)

    def _answering(self) -> Flow | None:
        port = self._packet.transport(0, 2)
        if port is None or self._packet.protocol is None:
            return None
        number = int.from_bytes(port, "big")
        return self._permission.allowing(self._target, self._source, self._packet.protocol, number)

    def _as_sent(self) -> Tuple:
        source_port, target_port = self._packet.transport(0, 2) or b"", self._packet.transport(2, 2) or b""
        return self._from, self._to, self._packet.protocol or 0, source_port, target_port

    def _answer(self) -> Tuple:
        source, target, protocol, source_port, target_port = self._as_sent()
        return target, source, protocol, target_port, source_port

    def _opened(self) -> tuple[tuple[str, object], ...]:
        """Return what is to be remembered of a packet that opens: nothing, where it is of a flow."""
        answer = self._answer()
        kept = self._memory(_waiting(self._source), answer)
        if answer in self._remembered.answers:
            return tuple(item for item in kept if item[0] == "pieces")
        return kept

    def _refuses(self) -> bool:
        """Tell whether a first answer makes no flow: of TCP, one with SYN or RST, or without its flags."""
        flags = self._packet.transport(13, 1)
        return self._packet.protocol == _TCP and (flags is None or flags[0] & 0x06 != 0)

    def _memory(self, name: str, entry: object) -> tuple[tuple[str, object], ...]:
        """Return what is to be remembered of a packet that passes."""
        if self._remembered.connection is not None:
            return ()
        piece = self._piece()
        first_of_several = (("pieces", piece),) if piece and self._more_follows() else ()
        return ((name, entry), *first_of_several)

    def _more_follows(self) -> bool:
        at, bit = (6, 0x2000) if self._version == 4 else (42, 1)
        word = self._packet.network(at, 2)
        return word is not None and bool(int.from_bytes(word, "big") & bit)

    def _is_later_piece(self) -> bool:
        at, bits = (6, 0x1FFF) if self._version == 4 else (42, 0xFFF8)
        word = self._packet.network(at, 2)
        return word is not None and bool(int.from_bytes(word, "big") & bits)

    def _piece(self) -> tuple[bytes, bytes, int, bytes] | None:
        """Return what all fragments of one packet have in common, None where it is no fragment's form."""
        protocol = self._packet.protocol
        if self._version == 4:
            ident = self._packet.network(4, 2)
        else:
            ident = self._packet.network(44, 4) if self._packet.network(6, 1) == bytes([_FRAGMENT]) else None
        return None if ident is None or protocol is None else (self._from, self._to, protocol, ident)

    def _echo(self) -> Decision | None:
        packet, kind = self._packet, self._packet.transport(0, 2)
        ident = packet.transport(4, 2)
        conntrack = self._remembered.connection is not None
        if (packet.protocol, kind) == _ECHO_REQUEST[self._version] and (ident or conntrack):
            flow = self._permission.allowing(self._source, self._target, _ICMP, None)
            if flow:
                entry = (self._to, self._from, ident)
                return Decision(True, "allowed", flow.place, self._memory("echoes", entry))
        if (packet.protocol, kind) == _ECHO_REPLY[self._version]:
            flow = self._permission.allowing(self._target, self._source, _ICMP, None)
            known = ident is not None and (self._from, self._to, ident) in self._remembered.echoes
            if flow and self._is("established", known):
                memory = tuple(item for item in self._memory("echoes", None) if item[0] == "pieces")
                return Decision(True, "an answer", flow.place, memory)
        return None

    def _other(self) -> Decision:
        if not self._concerns():
            return Decision(False, "no flow allows it")
        conntrack = self._remembered.connection is not None
        piece = self._piece()
        if not conntrack and self._is_later_piece() and piece in self._remembered.pieces:
            return Decision(True, "a fragment of what has passed")
        protocol, kinds = _ERRORS[self._version]
        kind = self._packet.transport(0, 1)
        tells = self._packet.protocol == protocol and kind is not None and kind[0] in kinds
        if tells and self._is("related", not conntrack and self._error_is_related()):
            return Decision(True, "tells of what was opened")
        return Decision(False, "no flow allows it")

    def _concerns(self) -> bool:
        """Tell whether there is any flow that this could belong to.

        What is outside may be a router on the way to somebody else; a machine is none.
        """
        if self._target.is_machine and not self._source.is_machine:
            return self._permission.has_any(self._target)
        return self._permission.near(self._source, self._target)

    def _error_is_related(self) -> bool:
        inner = _Inner(self._packet, self._version)
        if not inner.plain:
            return False
        peer = self._from if self._source.is_machine else inner.target
        receiver, known = self._to, self._remembered
        if peer is None or inner.protocol is None:
            return False
        if inner.source_port is not None and inner.target_port is not None:
            number = inner.protocol[0]
            opened = (peer, receiver, number, inner.target_port, inner.source_port)
            answered = (receiver, peer, number, inner.source_port, inner.target_port)
            if not {opened, answered}.isdisjoint(known.answers | known.tries | known.knocks):
                return True
        asked = (inner.protocol[0], inner.kind) == _ECHO_REQUEST[self._version]
        return asked and inner.ident is not None and (peer, receiver, inner.ident) in known.echoes


def _waiting(opener: End) -> str:
    """Return what of `Remembered` has the openings of an end that nobody has answered yet."""
    return "tries" if opener.is_machine or opener.is_host else "knocks"


class _Inner:
    """The packet that an ICMP error holds."""

    def __init__(self, packet: Packet, version: int) -> None:
        read = packet.transport
        if version == 4:
            fragment = read(14, 2)
            offset = int.from_bytes(fragment, "big") & 0x1FFF if fragment else 0
            first = read(8, 1)
            self.plain = first in {None, b"\x45"} and offset == 0
            self.protocol, self.target, ports = read(17, 1), read(24, 4), 28
        else:
            following = read(14, 1)
            self.plain = following is None or following[0] in _INNER_AFTER_IPV6
            self.protocol, self.target, ports = following, read(32, 16), 48
        self.source_port, self.target_port = read(ports, 2), read(ports + 2, 2)
        self.kind, self.ident = read(ports, 2), read(ports + 4, 2)
