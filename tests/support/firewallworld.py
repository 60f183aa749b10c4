"""A small fleet with policies, and frames that use and abuse it; the same for every test of the firewall."""

import random
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from wire import kind_of_port

from undercroft.firewall.classes import Classes, assigned
from undercroft.firewall.compiler import compile_ruleset
from undercroft.firewall.decisions import Path, PathKind, Remembered
from undercroft.firewall.elements import key_of
from undercroft.firewall.fleet import Elsewhere, Fleet, Port
from undercroft.firewall.kernel import Ruleset
from undercroft.firewall.marks import of_class
from undercroft.firewall.packets import parse
from undercroft.firewall.policy import (
    FirewallPolicy,
    Flow,
    LabelRule,
    OtherPorts,
    Peer,
    PeerKind,
    Ports,
    Protocol,
    Service,
    VlanGrant,
)
from undercroft.firewall.simulate import Memory
from undercroft.firewall.tracking import StateKind
from undercroft.model.verdict import Verdict
from undercroft.steady.policy import Match

MOST_TRIED, MOST_FLOWS = 60, 20

WORLD, HOST, ANY = Peer(PeerKind.WORLD), Peer(PeerKind.HOST), Peer(PeerKind.ANY)
PING = Service(Protocol.ICMP)


def label(name: str) -> Peer:
    return Peer(PeerKind.LABEL, name)


def networks(*texts: str, name: str = "") -> Peer:
    return Peer(PeerKind.NETWORK, name, tuple(map(ip_network, texts)))


def tcp(port: int) -> Service:
    return Service(Protocol.TCP, port, port)


def udp(port: int, high: int = 0) -> Service:
    return Service(Protocol.UDP, port, high or port)


LABELS = (
    LabelRule("web", Match(names=("web*",))),
    LabelRule("db", Match(names=("db*",))),
    LabelRule("quarantine", Match(), (Verdict.QUARANTINED,)),
)
POLICY = FirewallPolicy(
    labels=LABELS,
    flows=(
        Flow(label("web"), label("db"), (tcp(5432), PING), log=True, place="p:1"),
        Flow(WORLD, label("web"), (tcp(443), tcp(80), PING), place="p:2"),
        Flow(label("web"), WORLD, (tcp(443), udp(53), PING), place="p:3"),
        Flow(networks("10.0.0.0/8", "2001:db8:800::/37"), label("db"), (tcp(22),), place="p:4"),
        Flow(networks("192.0.2.7/32", "10.9.0.0/17"), label("db"), (udp(161, 162),), place="p:5"),
        Flow(label("db"), HOST, (udp(53), PING), place="p:6"),
        Flow(HOST, ANY, (tcp(22), PING), place="p:7"),
        Flow(label("quarantine"), networks("192.0.2.10/32"), (tcp(443),), place="p:8"),
        Flow(label("web"), networks("224.0.0.0/24", "ff02::/16"), (udp(5353),), place="p:9"),
        Flow(label("db"), label("db"), (Service(Protocol.SCTP, 5000, 5000), tcp(5432)), place="p:10"),
        Flow(ANY, networks("192.0.2.7/32"), (udp(123),), place="p:11"),
    ),
    ports=Ports(uplinks=("eth0",)),
)
OPEN_PORTS = FirewallPolicy(
    labels=LABELS,
    flows=(
        Flow(ANY, ANY, (tcp(443), udp(53), PING), place="p:1"),
        Flow(networks("0.0.0.0/0", "::/0"), label("db"), (tcp(22),), place="p:2"),
    ),
    ports=Ports(machines=("vnet", "tap"), uplinks=("eth0",), others=OtherPorts.OUTSIDE),
    vlans=(VlanGrant("web", (5,)), VlanGrant("db", (6, 5)), VlanGrant("quarantine", (7,))),
)
VLAN_POLICY = replace(POLICY, vlans=OPEN_PORTS.vlans)
NOTHING = FirewallPolicy(ports=Ports(uplinks=("eth0",)))
POLICIES = (POLICY, OPEN_PORTS, NOTHING)


def _port(
    number: int, name: str, tap: str, *labels: str, addresses: bool = True, arriving: bool = False
) -> Port:
    mac = bytes([0x52, 0x54, 0, 0, 0, number])
    ipv4 = (IPv4Address(f"10.1.0.{number}"), IPv4Address(f"10.1.1.{number}")) if addresses else ()
    ipv6 = (IPv6Address(f"2001:db8::{number}"),) if addresses else ()
    return Port(f"uuid-{number}", name, tap, mac, ipv4, ipv6, frozenset(labels), "here", arriving)


FLEET = Fleet(
    "here",
    (ip_address("10.1.0.254"), ip_address("2001:db8::fe"), ip_address("fe80::fe")),
    (
        _port(1, "web01", "vnet1", "web"),
        _port(2, "db01", "vnet2", "db"),
        _port(3, "db02", "vnet3", "db"),
        _port(4, "other", "port4"),
        _port(5, "sick", "vnet5", "quarantine"),
        _port(6, "both", "vnet6", "db", "web"),
        _port(7, "fresh", "vnet7", "web", addresses=False),
        _port(8, "coming", "vnet8", "web", arriving=True),
    ),
    (
        Elsewhere(
            "uuid-20", "web20", (ip_address("10.1.0.20"), ip_address("2001:db8::20")), frozenset({"web"})
        ),
        Elsewhere("uuid-21", "sick21", (ip_address("10.1.0.21"),), frozenset({"quarantine"})),
    ),
)
CLASSES = assigned(
    Classes(), [*(port.labels for port in FLEET.ports), *(machine.labels for machine in FLEET.elsewhere)]
)


def ruleset(policy: FirewallPolicy = POLICY, state: StateKind = StateKind.TUPLES) -> Ruleset:
    return compile_ruleset(policy, FLEET, CLASSES, state)


def routed_mark(path: Path) -> int:
    return of_class(CLASSES.number(path.routed)) if path.routed is not None else 0


def memory_of(remembered: Remembered) -> Memory:
    """Return the same memory as the kernel's sets hold it."""
    memory = Memory()
    for kind, tuples in (
        ("flows", remembered.answers),
        ("tries", remembered.tries),
        ("knocks", remembered.knocks),
    ):
        for source, target, protocol, source_port, target_port in tuples:
            name = f"{kind}{4 if len(source) == 4 else 6}"
            key = key_of(source, target, bytes([protocol]), source_port, target_port)
            memory.sets.setdefault(name, set()).add(key)
    for source, target, ident in remembered.echoes:
        name = "echoes4" if len(source) == 4 else "echoes6"
        memory.sets.setdefault(name, set()).add(key_of(source, target, ident))
    for source, target, protocol, ident in remembered.pieces:
        name = "pieces4" if len(source) == 4 else "pieces6"
        memory.sets.setdefault(name, set()).add(key_of(source, target, bytes([protocol]), ident))
    if remembered.asked:
        memory.sets["asked"] = set(remembered.asked)
    memory.connection_bits = {"established": 2, "related": 4}.get(remembered.connection or "", 8)
    return memory


def with_room(remembered: Remembered) -> Remembered:
    """Return less than is remembered, where it is so much that frames would seldom be about the same."""
    if len(remembered.tries) + len(remembered.knocks) > MOST_TRIED:
        remembered = replace(remembered, tries=frozenset(), knocks=frozenset())
    if len(remembered.answers) > MOST_FLOWS:
        remembered = Remembered(connection=remembered.connection)
    return remembered


def without_rates(sets: Mapping[str, Collection[bytes]]) -> dict[str, Collection[bytes]]:
    """Return what is remembered without the sets of rates, of which no single packet's meaning speaks."""
    return {name: keys for name, keys in sets.items() if keys and "-rate" not in name}


def with_entries(remembered: Remembered, entries: tuple[tuple[str, object], ...]) -> Remembered:
    """Return what is remembered after a decision."""
    names = ("answers", "tries", "knocks", "echoes", "pieces", "asked")
    values = {name: set(getattr(remembered, name)) for name in names}
    for name, entry in entries:
        values[name].add(entry)
    return Remembered(
        **{name: frozenset(found) for name, found in values.items()}, connection=remembered.connection
    )


_OWN_HOST6 = tuple(one.packed for one in FLEET.host_addresses if one.version == 6)


@dataclass
class Frames:
    """Draws frames and ways, most of them near to what is allowed."""

    random: random.Random
    addresses4: list[bytes] = field(default_factory=list)
    addresses6: list[bytes] = field(default_factory=list)
    passed: list[tuple[Path, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        named4 = ["192.0.2.7", "192.0.2.10", "10.9.1.1", "10.9.200.1", "203.0.113.9", "8.8.8.8", "0.0.0.0"]
        named4 += ["255.255.255.255", "224.0.0.251", "224.0.1.1", "127.0.0.1", "10.1.0.254", "10.1.0.20"]
        named4 += ["10.1.0.21"]
        named6 = ["2001:db8:800::1", "2001:db8:1800::1", "2001:db8:f::1", "fe80::1", "fe80::fe", "::", "::1"]
        named6 += ["ff02::1", "ff02::2", "ff02::1:2", "ff02::fb", "ff0e::1", "2001:db8::20", "2001:db8::fe"]
        self.addresses4 = [ip_address(text).packed for text in named4]
        self.addresses6 = [ip_address(text).packed for text in named6]
        for port in FLEET.ports:
            self.addresses4 += [address.packed for address in port.ipv4] * 2
            self.addresses6 += [address.packed for address in port.all_ipv6] * 2

    def draw(self, remembered: Remembered) -> tuple[Path, bytes]:
        """Return a way and a frame: a flow of the policies, a sequel to what has passed, or anything."""
        path, frame = self._drawn(remembered)
        if path.kind is not PathKind.FROM_HOST and self.random.random() < 0.06:
            # As a machine of this host would send it, and from elsewhere.
            path = replace(path, source=self.random.choice(("eth0", "eth0", "veth9")))
            if self.random.random() < 0.7:
                frame = frame[:6] + OUTSIDE_MAC + frame[12:]
        path = replace(path, source_kind=kind_of_port(path.source), target_kind=kind_of_port(path.target))
        if self.random.random() < 0.12:
            frame = frame[:12] + self.random.choice(_TAGS) + frame[12:]
        return path, frame

    def _drawn(self, remembered: Remembered) -> tuple[Path, bytes]:
        choice = self.random.random()
        if choice < 0.35:
            path, frame = self._wanted()
        elif choice < 0.47:
            path, frame = self._own_message()
        elif choice < 0.70 and self.passed:
            path, frame = self._sequel(*self.random.choice(self.passed))
        else:
            path = self.path()
            return path, self.frame(path, remembered)
        return path, self._changed(frame) if self.random.random() < 0.3 else frame

    def note(self, path: Path, frame: bytes) -> None:
        """Keep what has passed, for sequels."""
        if frame[12:14] == b"\x81\0":
            frame = frame[:12] + frame[16:]
        self.passed = [*self.passed[-40:], (path, frame)]

    def _wanted(self) -> tuple[Path, bytes]:
        ports = {port.name: port for port in FLEET.ports}
        source_name, target_name, protocol, port, outside4, outside6 = self.random.choice(_WANTED)
        source, target = ports.get(source_name), ports.get(target_name)
        version = self.random.choice((4, 6)) if outside6 else 4
        outside = ip_address(outside4 if version == 4 else outside6).packed if outside4 else b""
        path = _path(source, target, source_name, target_name)
        source_ip = self.random.choice(_own(source, version)) if source else outside
        target_ip = self.random.choice(_own(target, version)) if target else outside
        if protocol == 1:
            echo = b"\x08\0\0\0" if version == 4 else b"\x80\0\0\0"
            protocol, payload = (
                (1 if version == 4 else 58),
                echo + self.random.randrange(3).to_bytes(2) + bytes(10),
            )
        else:
            source_port = 40000 + self.random.randrange(2)
            if port in {67, 68}:
                source_port, port = (135 - port, port) if version == 4 else (479 + port, 614 - port)
            payload = self._segment(struct.pack(">HH", source_port, port))
        return path, self._ethernet(
            source.mac if source else OUTSIDE_MAC,
            target.mac if target else OUTSIDE_MAC,
            version,
            source_ip,
            target_ip,
            protocol,
            payload,
        )

    def _own_message(self) -> tuple[Path, bytes]:
        """Return what a machine, or the network, says to keep the network going; as it should be."""
        port, other = self.random.sample(FLEET.ports[:6], 2)
        paths = [Path(PathKind.FORWARD, port.tap, other.tap), Path(PathKind.FORWARD, port.tap, "eth0")]
        path = self.random.choice([*paths, Path(PathKind.TO_HOST, port.tap)])
        mac, own4, own6 = port.mac, port.ipv4[0].packed, self.random.choice(port.all_ipv6).packed
        other4, other6 = other.ipv4[0].packed, self.random.choice(other.all_ipv6).packed
        own_option, to_mac = b"\x01\x01" + mac, b"\x02\x01" + mac
        nonce, none6, rest = b"\x0e\x01" + bytes(6), bytes(16), bytes(4)
        routers, link = ip_address("ff02::2").packed, ip_address("fe80::1").packed
        of_machine = (
            b"\x08\x06\0\x01\x08\0\x06\x04\0\x01" + mac + own4 + bytes(6) + other4,
            b"\x08\x06\0\x01\x08\0\x06\x04\0\x02" + mac + own4 + other.mac + other4,
            b"\x08\x06\0\x01\x08\0\x06\x04\0\x01" + mac + bytes(4) + bytes(6) + own4,
            b"\x80\x35\0\x01\x08\0\x06\x04\0\x03" + 2 * (mac + bytes(4)) + bytes(18),
            _icmp6(own6, other6, b"\x87\0\0\0" + rest + other6 + own_option),
            _icmp6(own6, other6, b"\x87\0\0\0" + rest + other6),
            _icmp6(none6, other6, b"\x87\0\0\0" + rest + own6),
            _icmp6(none6, other6, b"\x87\0\0\0" + rest + own6 + nonce),
            _icmp6(own6, other6, b"\x88\0\0\0" + rest + own6 + to_mac),
            _icmp6(own6, other6, b"\x88\0\0\0" + rest + own6),
            _icmp6(none6, routers, b"\x85\0\0\0" + rest),
            _icmp6(own6, routers, b"\x85\0\0\0" + rest),
            _icmp6(own6, routers, b"\x85\0\0\0" + rest + own_option),
            b"\x08\0" + ip_packet(4, bytes(4), b"\xff" * 4, 17, b"\0\x44\0\x43" + bytes(20)),
            b"\x86\xdd" + ip_packet(6, own6, DHCP6_SERVERS, 17, b"\x02\x22\x02\x23" + bytes(20)),
        )
        of_network = (
            _icmp6(link, own6, b"\x86\0\0\0" + bytes(12)),
            _icmp6(link, own6, b"\x87\0\0\0" + rest + own6),
            _icmp6(link, own6, b"\x88\0\0\0" + rest + link),
            _icmp6(link, own6, b"\x88\0\0\0" + rest + other6),
            _icmp6(link, own6, b"\x88\0\0\0" + rest + self.random.choice(_OWN_HOST6)),
            _icmp6(self.random.choice(_OWN_HOST6), own6, b"\x88\0\0\0" + rest + _OWN_HOST6[0]),
            b"\x08\0" + ip_packet(4, OUTSIDE4, own4, 17, b"\0\x43\0\x44" + bytes(20)),
            b"\x08\0" + ip_packet(4, OUTSIDE4, b"\xff" * 4, 17, b"\0\x43\0\x44" + bytes(20)),
            b"\x86\xdd" + ip_packet(6, link, own6, 17, b"\x02\x23\x02\x22" + bytes(20)),
        )
        if self.random.random() < 0.3:
            path = self.random.choice([_reversed(paths[1]), Path(PathKind.FROM_HOST, "", port.tap)])
            return path, mac + OUTSIDE_MAC + self._twisted(self.random.choice(of_network))
        target_mac = self.random.choice((other.mac, b"\xff" * 6, OUTSIDE_MAC))
        return path, target_mac + mac + self._twisted(self.random.choice(of_machine))

    def _twisted(self, message: bytes) -> bytes:
        """Return a message with one byte wrong, one time in two."""
        if self.random.random() < 0.5:
            return message
        changed = bytearray(message)
        changed[self.random.randrange(len(changed))] ^= 1 << self.random.randrange(8)
        return bytes(changed)

    def _sequel(self, path: Path, frame: bytes) -> tuple[Path, bytes]:
        version = 4 if frame[12:14] == b"\x08\0" else 6
        packet = parse(frame)
        if packet is None or packet.transport_offset is None:
            return path, frame
        start, width = (26, 4) if version == 4 else (22, 16)
        source, target = frame[start : start + width], frame[start + width : start + 2 * width]
        payload, protocol = frame[packet.transport_offset :], packet.protocol or 0
        back = _reversed(path)
        choice = self.random.random()
        if choice < 0.2:
            return path, self._later_piece(frame, version)
        if choice < 0.4:
            sender = self.random.choice((target, target, *self.addresses4[:4])) if version == 4 else target
            if len(sender) != len(target):
                sender = target
            inner = frame[14 : 14 + 20 + 28] if version == 4 else frame[14 : 14 + 40 + 28]
            number, body = self._error(version, inner)
            return back, self._ethernet(frame[:6], frame[6:12], version, sender, source, number, body)
        if protocol in {1, 58}:
            reply = {8: b"\0\0", 128: b"\x81\0"}.get(payload[0], payload[:2]) + payload[2:]
        else:
            reply = payload[2:4] + payload[:2] + payload[4:]
        return back, self._ethernet(frame[:6], frame[6:12], version, target, source, protocol, reply)

    def _later_piece(self, frame: bytes, version: int) -> bytes:
        changed = bytearray(frame)
        if version == 4:
            changed[20:22] = b"\x00\xb9"
        elif frame[20] == 44 and len(frame) > 58:
            changed[56:58] = b"\x05\xc8"
        return bytes(changed)

    def path(self) -> Path:
        one, other = self.device(), self.device()
        kind = self.random.choice([PathKind.FORWARD] * 5 + [PathKind.TO_HOST, PathKind.FROM_HOST])
        if kind is PathKind.TO_HOST:
            return Path(kind, one)
        if kind is PathKind.FROM_HOST:
            labels = [None, None, *CLASSES.numbers]
            return Path(kind, "", other, self.random.choice(labels))
        return Path(kind, one, other)

    def device(self) -> str:
        taps = [port.tap for port in FLEET.ports]
        return self.random.choice([*taps, *taps, "eth0", "eth0", "veth9", "vnet99", "nic7"])

    def frame(self, path: Path, remembered: Remembered) -> bytes:
        return self._changed(self._frame(path, remembered))

    def _changed(self, frame: bytes) -> bytes:
        choice = self.random.random()
        if choice < 0.06:
            frame = self._encapsulated(frame)
        elif choice < 0.10:
            frame = frame[: self.random.randrange(14, len(frame) + 1)]
        elif choice < 0.20:
            changed = bytearray(frame)
            place = self.random.randrange(len(changed))
            changed[place] = self.random.choice([changed[place] ^ (1 << self.random.randrange(8)), 0, 255])
            frame = bytes(changed)
        elif choice < 0.24:
            frame += bytes(self.random.randrange(1, 40))
        return frame

    def _ends(self, path: Path, version: int) -> tuple[bytes, bytes, bytes, bytes]:
        ports = {port.tap: port for port in FLEET.ports}
        pool = self.addresses4 if version == 4 else self.addresses6
        macs = [port.mac for port in FLEET.ports] + [b"\x02\0\0\0\0\x01"]
        source_mac, target_mac = self.random.choice(macs), self.random.choice([*macs, b"\xff" * 6])
        source, target = self.random.choice(pool), self.random.choice(pool)
        sure = self.random.random() < 0.85
        if path.source in ports and sure:
            source_mac = ports[path.source].mac
            source = self.random.choice(_own(ports[path.source], version) or [source])
        if path.target in ports and self.random.random() < 0.85:
            target_mac = ports[path.target].mac
            target = self.random.choice(_own(ports[path.target], version) or [target])
        return source_mac, target_mac, source, target

    def _frame(self, path: Path, remembered: Remembered) -> bytes:
        version = self.random.choice((4, 6))
        kind = self.random.random()
        if kind < 0.08:
            return self._arp(path)
        source_mac, target_mac, source, target = self._ends(path, version)
        if version == 6 and kind < 0.30:
            return target_mac + source_mac + b"\x86\xdd" + self._discovery(path, source, target, source_mac)
        known = remembered.answers
        if not known or self.random.random() < 0.3:
            known = remembered.tries | remembered.knocks
        if known and kind < 0.5:
            found = [item for item in sorted(known) if len(item[0]) == (4 if version == 4 else 16)]
            if found:
                a, b, protocol, one, other = self.random.choice(found)
                if self.random.random() < 0.8:
                    source, target = a, b
                payload = self._segment(one + other)
                if self.random.random() < 0.4:
                    inner = ip_packet(version, b, a, protocol, other + one + bytes(4))
                    if self.random.random() < 0.3:
                        inner = ip_packet(version, a, b, protocol, one + other + bytes(4))
                    return self._ethernet(
                        source_mac, target_mac, version, source, target, *self._error(version, inner)
                    )
                return self._ethernet(source_mac, target_mac, version, source, target, protocol, payload)
        protocol, payload = self._transport(version, remembered)
        return self._ethernet(source_mac, target_mac, version, source, target, protocol, payload)

    def _segment(self, ports: bytes) -> bytes:
        """Return a TCP header; as another protocol's it is as good as any."""
        return (
            ports
            + bytes(9)
            + bytes([self.random.choice((0x10, 0x10, 0x18, 0x02, 0x12, 0x04, 0x14))])
            + bytes(6)
        )

    def _ethernet(
        self,
        source_mac: bytes,
        target_mac: bytes,
        version: int,
        source: bytes,
        target: bytes,
        protocol: int,
        payload: bytes,
    ) -> bytes:
        ether_type = b"\x08\x00" if version == 4 else b"\x86\xdd"
        return target_mac + source_mac + ether_type + self._ip(version, source, target, protocol, payload)

    def _ip(self, version: int, source: bytes, target: bytes, protocol: int, payload: bytes) -> bytes:
        choice = self.random.random()
        ident = self.random.randrange(3)
        if choice < 0.12:
            word = self.random.choice((0x2000, 0x2000, 0x0001, 0x00B9, 0x20B9))
            if version == 4:
                return ip_packet(4, source, target, protocol, payload, word, ident)
            offset = (word & 0x1FFF) << 3 | (1 if word & 0x2000 else 0)
            header = struct.pack(">BBHI", protocol, 0, offset, ident)
            return ip_packet(6, source, target, 44, header + payload)
        if choice < 0.17 and version == 6:
            following = self.random.choice((0, 43, 51, 60, 59, 44, 50))
            return ip_packet(6, source, target, following, bytes([protocol, 0]) + bytes(6) + payload)
        if choice < 0.15:
            return ip_packet(4, source, target, protocol, payload, options=bytes([148, 4, 0, 0]))
        return ip_packet(version, source, target, protocol, payload, 0, ident)

    def _transport(self, version: int, remembered: Remembered) -> tuple[int, bytes]:
        one = self.random.choice(
            (443, 80, 53, 22, 5432, 5000, 161, 162, 123, 67, 68, 546, 547, 40000, 40001, 5353)
        )
        other = self.random.choice(
            (443, 80, 53, 22, 5432, 5000, 161, 162, 123, 67, 68, 546, 547, 40000, 5353)
        )
        choice = self.random.random()
        if choice < 0.2:
            echo = self.random.choice((0x0800, 0x0000) if version == 4 else (0x8000, 0x8100))
            return 1 if version == 4 else 58, struct.pack(">HHHH", echo, other, self.random.randrange(3), 1)
        if choice < 0.25:
            kind = self.random.randrange(256)
            return self.random.choice((1, 58)), bytes([kind, 0]) + bytes(30)
        if choice < 0.30:
            ident = self.random.randrange(3).to_bytes(2, "big")
            pairs = [
                item for item in sorted(remembered.echoes) if len(item[0]) == (4 if version == 4 else 16)
            ]
            if pairs:
                a, b, ident = self.random.choice(pairs)
                echo = b"\x08\0" if version == 4 else b"\x80\0"
                inner = ip_packet(
                    version, b, a, 1 if version == 4 else 58, echo + bytes(2) + ident + bytes(2)
                )
                return self._error(version, inner)
        protocol = self.random.choice((6, 6, 6, 17, 17, 17, 132, 47, 50, 4))
        return protocol, struct.pack(">HH", one, other) + bytes(self.random.choice((16, 16, 0)))

    def _error(self, version: int, inner: bytes) -> tuple[int, bytes]:
        kind = self.random.choice((3, 11, 12, 5) if version == 4 else (1, 2, 3, 4, 137))
        return 1 if version == 4 else 58, bytes([kind, 0]) + bytes(6) + inner

    def _arp(self, path: Path) -> bytes:
        source_mac, target_mac, source, target = self._ends(path, 4)
        form = self.random.choice(
            (b"\0\x01\x08\0\x06\x04\0\x01", b"\0\x01\x08\0\x06\x04\0\x02") * 4 + (bytes(8),)
        )
        sender_mac = self.random.choice((source_mac, source_mac, source_mac, target_mac))
        if self.random.random() < 0.2:
            source = bytes(4)
            target = self.random.choice((source, target))
        return (
            target_mac + source_mac + b"\x08\x06" + form + sender_mac + source + bytes(6) + target + bytes(18)
        )

    def _discovery(self, path: Path, source: bytes, target: bytes, mac: bytes) -> bytes:
        ports = {port.tap: port for port in FLEET.ports}
        kind = self.random.choice((133, 134, 135, 135, 136, 136, 137))
        wanted = self.random.choice(self.addresses6)
        if path.target in ports and kind == 135 and self.random.random() < 0.7:
            wanted = self.random.choice(_own(ports[path.target], 6))
        if path.source in ports and (kind == 136 or self.random.random() < 0.2):
            wanted = self.random.choice(_own(ports[path.source], 6))
        option = self.random.choice(
            (b"", b"", b"\x01\x01" + mac, b"\x02\x01" + mac, b"\x0e\x01" + bytes(6), b"\x01\x01" + bytes(6))
        )
        if self.random.random() < 0.2:
            source = bytes(16)
        if kind == 133:
            target = self.random.choice((ip_address("ff02::2").packed,) * 3 + (target,))
            body = bytes(4) + option
        else:
            body = bytes(4) + wanted + option
        if kind == 134 and self.random.random() < 0.7:
            source = ip_address("fe80::1").packed
        code = self.random.choice((0,) * 9 + (1,))
        hops = self.random.choice((255,) * 9 + (64,))
        return ip_packet(6, source, target, 58, bytes([kind, code]) + bytes(2) + body, hops=hops)

    def _encapsulated(self, frame: bytes) -> bytes:
        tags = self.random.choice(
            (
                b"\x81\x00\x00\x00",
                b"\x81\x00\x00\x05",
                b"\x81\x00\x00\x05",
                b"\x81\x00\x00\x06",
                b"\x81\x00\xe0\x05",
                b"\x88\xa8\x00\x05\x81\x00\x00\x05",
                b"\x81\x00\x00\x00\x81\x00\x00\x05",
                b"\x91\x00\x00\x05",
            )
        )
        if self.random.random() < 0.3:
            length = (len(frame) - 14 + 8).to_bytes(2, "big")
            return frame[:12] + tags * self.random.randrange(2) + length + b"\xaa\xaa\x03\0\0\0" + frame[12:]
        return frame[:12] + tags + frame[12:]


_TAGS = (*(b"\x81\0\0\x05",) * 4, b"\x81\0\xe0\x05", b"\x81\0\0\x06", b"\x81\0\0\x07", b"\x88\xa8\0\x05")
DHCP6_SERVERS = ip_address("ff02::1:2").packed
OUTSIDE4 = ip_address("203.0.113.9").packed
OUTSIDE_MAC = b"\x02\0\0\0\0\x01"

_WANTED = (
    ("web01", "db01", 6, 5432, "", "-"),
    ("web01", "db02", 1, 0, "", "-"),
    ("both", "db01", 6, 5432, "", "-"),
    ("db01", "db02", 132, 5000, "", "-"),
    ("db01", "both", 6, 443, "", "-"),
    ("eth0", "web01", 6, 443, "203.0.113.9", "2001:db8:f::1"),
    ("eth0", "both", 1, 0, "203.0.113.9", "2001:db8:f::1"),
    ("eth0", "sick", 6, 443, "203.0.113.9", "2001:db8:f::1"),
    ("eth0", "db01", 6, 22, "10.9.200.1", "2001:db8:800::1"),
    ("eth0", "db01", 6, 5432, "10.1.0.20", "2001:db8::20"),
    ("eth0", "db01", 6, 5432, "10.1.0.8", "2001:db8::8"),
    ("coming", "db01", 6, 5432, "", "-"),
    ("eth0", "coming", 6, 443, "203.0.113.9", "2001:db8:f::1"),
    ("eth0", "db01", 17, 161, "192.0.2.7", ""),
    ("eth0", "db02", 17, 162, "10.9.1.1", ""),
    ("eth0", "web01", 17, 68, "203.0.113.9", "fe80::1"),
    ("host", "web01", 17, 68, "10.1.0.254", "fe80::fe"),
    ("web01", "eth0", 6, 443, "8.8.8.8", "2001:db8:f::1"),
    ("web01", "eth0", 17, 53, "192.0.2.7", "2001:db8:800::1"),
    ("web01", "eth0", 1, 0, "8.8.8.8", "2001:db8:f::1"),
    ("web01", "eth0", 17, 5353, "224.0.0.251", "ff02::fb"),
    ("web01", "eth0", 17, 123, "192.0.2.7", ""),
    ("web01", "eth0", 17, 67, "255.255.255.255", "ff02::1:2"),
    ("sick", "eth0", 6, 443, "192.0.2.10", ""),
    ("sick", "eth0", 6, 443, "8.8.8.8", "2001:db8:f::1"),
    ("db01", "host", 17, 53, "10.1.0.254", "2001:db8::fe"),
    ("db01", "host", 1, 0, "10.1.0.254", "fe80::fe"),
    ("host", "other", 6, 22, "10.1.0.254", "2001:db8::fe"),
    ("host", "sick", 6, 22, "10.1.0.254", "2001:db8::fe"),
    ("host", "web01", 1, 0, "10.1.0.254", "fe80::fe"),
    ("host", "web01", 6, 443, "8.8.8.8", "2001:db8:f::1"),
)
"""Source, target, protocol, port, and the address of the one that is no port."""


def _path(source: Port | None, target: Port | None, source_name: str, target_name: str) -> Path:
    if target_name == "host" and source:
        return Path(PathKind.TO_HOST, source.tap)
    if source_name == "host" and target:
        return Path(PathKind.FROM_HOST, "", target.tap)
    return Path(PathKind.FORWARD, source.tap if source else "eth0", target.tap if target else "eth0")


def _reversed(path: Path) -> Path:
    match path.kind:
        case PathKind.TO_HOST:
            return Path(PathKind.FROM_HOST, "", path.source)
        case PathKind.FROM_HOST:
            return Path(PathKind.TO_HOST, path.target)
        case _:
            return Path(PathKind.FORWARD, path.target, path.source)


def _own(port: Port, version: int) -> list[bytes]:
    return [address.packed for address in (port.ipv4 if version == 4 else port.all_ipv6)]


def _icmp6(source: bytes, target: bytes, body: bytes) -> bytes:
    return b"\x86\xdd" + ip_packet(6, source, target, 58, body, hops=255)


def ip_packet(
    version: int,
    source: bytes,
    target: bytes,
    protocol: int,
    payload: bytes,
    fragment: int = 0,
    ident: int = 0,
    hops: int = 64,
    options: bytes = b"",
) -> bytes:
    """Return an IP packet; the checksum is nobody's business here."""
    if version == 6:
        return struct.pack(">IHBB", 0x60000000, len(payload), protocol, hops) + source + target + payload
    words = 5 + len(options) // 4
    head = struct.pack(
        ">BBHHHBBH", 0x40 | words, 0, words * 4 + len(payload), ident, fragment, hops, protocol, 0
    )
    return head + source + target + options + payload
