"""What a policy says about one packet: written from the policy and the fleet, without rules and classes.

This is the specification that the compiled table is compared with; nothing here is shared with the compiler
but the values, and the parser of frames. `genuine` says whether a frame is its port's own, `permission` who
may open what.

    decision = decide(policy, fleet, packet, Path(PathKind.FORWARD, "vnet1", "vnet2"), Memory())
"""

from ipaddress import IPv4Address, IPv6Address

from undercroft.firewall.decisions import Decision, Path, PathKind, Remembered
from undercroft.firewall.fleet import Fleet, Port
from undercroft.firewall.genuine import is_genuine, neighbour_message, own_addresses, plain_headers6
from undercroft.firewall.packets import ARP, IPV4, IPV6, RARP, TAGS, Packet
from undercroft.firewall.passage import Passage
from undercroft.firewall.permission import End, Permission
from undercroft.firewall.policy import FirewallPolicy, OtherPorts

_DHCP_CLIENT, _DHCP_SERVER, _DHCP6_CLIENT, _DHCP6_SERVER = 68, 67, 546, 547
_BROADCAST, _DHCP6_SERVERS = IPv4Address("255.255.255.255"), IPv6Address("ff02::1:2")
_UDP, _ICMPV6 = 17, 58
_ADVERTISEMENT = b"\x88\0"
_TAP = "tun"
"""What the kernel calls the kind of a device that a program holds the other end of, as QEMU does."""


def decide(
    policy: FirewallPolicy, fleet: Fleet, packet: Packet, path: Path, remembered: Remembered
) -> Decision:
    """Return what the policy says.

    Args:
        policy: any.
        fleet: all machines, each address and tap once.
        packet: as `packets.parse` returns it.
        path: the way that it takes.
        remembered: what has passed before.
    """
    return Meaning(policy, fleet).decide(packet, path, remembered)


class Meaning:
    """A policy with a fleet, indexed so that many packets can be asked about."""

    def __init__(self, policy: FirewallPolicy, fleet: Fleet) -> None:
        self._policy = policy
        self._ports = {port.tap: port for port in fleet.ports}
        self._stations = {port.mac for port in fleet.ports if not port.arriving}
        self._permission = Permission(policy, fleet)

    def decide(self, packet: Packet, path: Path, remembered: Remembered) -> Decision:
        """Return what the policy says; the arguments are `decide`'s."""
        source, target = self._ports.get(path.source), self._ports.get(path.target)
        at_once = self._at_once(packet, path, source, target)
        if at_once:
            return at_once
        sender = self._sender(packet, path, source, remembered)
        if isinstance(sender, Decision):
            return sender
        if target:
            return self._to_machine(packet, sender, target, remembered)
        if path.kind is PathKind.FORWARD and not self._may_be_outside(path.target):
            return Decision(False, f"{path.target} is no uplink")
        if packet.ether_type == RARP:
            return Decision(path.kind is PathKind.FORWARD, "says where it is, for switches to know")
        return self._to_outside(packet, sender, remembered)

    def _at_once(
        self, packet: Packet, path: Path, source: Port | None, target: Port | None
    ) -> Decision | None:
        """Return what becomes of it whoever is at its ends, None where that has to be asked."""
        devices = ((path.source, path.source_kind, source), (path.target, path.target_kind, target))
        for name, kind, port in devices:
            if port is None and (kind == _TAP or self._looks_like_a_machine(name)):
                return Decision(False, f"{name} is no machine's that the filter knows")
        if source is None and path.source and self._bears_a_name_from_here(packet):
            return Decision(False, "from elsewhere, in the name of a machine that runs here")
        if source is None and target is None:
            return Decision(True, "concerns no machine")
        if packet.outer_type in TAGS and not self._may_use_vlan(packet, path, source, target):
            return Decision(False, "a tag that is not granted")
        return None

    def _sender(
        self, packet: Packet, path: Path, source: Port | None, remembered: Remembered
    ) -> End | Decision:
        """Return who sent a packet, or what becomes of it whoever it is for."""
        if source:
            if not is_genuine(source, packet):
                return Decision(False, "not what this port may send")
            return self._permission.machine(source.labels)
        if path.routed is not None:
            return self._permission.machine(path.routed)
        if path.kind is PathKind.FORWARD and not self._may_be_outside(path.source):
            return Decision(False, f"{path.source} is no uplink")
        sender = self._outside_sender(packet, from_host=path.kind is PathKind.FROM_HOST)
        if sender is None:
            return Decision(False, "a forged source, or no plain IP or ARP")
        if neighbour_message(packet) == _ADVERTISEMENT and self._claims_anothers(packet, sender):
            return Decision(False, "claims another's address")
        service = _infrastructure(packet, sender, remembered)
        return Decision(True, service) if service else sender

    def _bears_a_name_from_here(self, packet: Packet) -> bool:
        """Tell whether a frame has the MAC or an address of a machine that runs here, or claims one."""
        address = {
            IPV4: packet.network(12, 4),
            IPV6: packet.network(8, 16),
            ARP: packet.network(14, 4),
        }.get(packet.ether_type)
        advertises = packet.ether_type == IPV6 and packet.protocol == _ICMPV6
        advertises = advertises and packet.transport(0, 2) == _ADVERTISEMENT
        claimed = packet.transport(8, 16) if advertises else None
        of_machines = (self._permission.address(one).is_here for one in (address, claimed) if one)
        return packet.link(6, 6) in self._stations or any(of_machines)

    def _claims_anothers(self, packet: Packet, sender: End) -> bool:
        """Tell whether an advertisement is of an address of a machine here, or of the host by another."""
        claimed = packet.transport(8, 16)
        owner = self._permission.address(claimed) if claimed else self._permission.world
        return owner.is_here or (owner.is_host and not sender.is_host)

    def _may_use_vlan(self, packet: Packet, path: Path, *ends: Port | None) -> bool:
        """Tell whether a frame bears the tag of a VLAN that the machines at both ends may use."""
        allowed = (self._policy.vlans_of(port.labels) for port in ends if port)
        return path.kind is PathKind.FORWARD and all(packet.vlan in ids for ids in allowed)

    def _looks_like_a_machine(self, name: str) -> bool:
        return any(name.startswith(prefix) for prefix in self._policy.ports.machines)

    def _may_be_outside(self, name: str) -> bool:
        return self._policy.ports.others is OtherPorts.OUTSIDE or name in self._policy.ports.uplinks

    def _outside_sender(self, packet: Packet, *, from_host: bool) -> End | None:
        """Return whose a packet is that no machine's port has sent, None where that cannot be."""
        match packet.ether_type:
            case 0x0800:
                address = packet.network(12, 4)
                well_formed = packet.network(0, 1) == b"\x45"
            case 0x86DD:
                address = packet.network(8, 16)
                well_formed = plain_headers6(packet)
            case 0x0806:
                address, well_formed = packet.network(14, 4), True
            case _:
                return None
        if not well_formed:
            return None
        sender = self._permission.address(address) if address else self._permission.world
        if sender.is_here or (sender.is_host and not from_host):
            return None
        return sender

    def _to_machine(self, packet: Packet, sender: End, port: Port, remembered: Remembered) -> Decision:
        target = self._permission.machine(port.labels)
        wanted = _looked_for(packet)
        if wanted is not None:
            own = wanted in own_addresses(port)
            near = self._permission.near(sender, target)
            return Decision(own and near, "looks for a neighbour" if own and near else "no neighbour of this")
        address = _target(packet)
        if address not in own_addresses(port) or packet.link(0, 6) != port.mac:
            return Decision(False, "not to this port's MAC and address")
        return Passage(self._permission, packet, sender, target, remembered).decision()

    def _to_outside(self, packet: Packet, sender: End, remembered: Remembered) -> Decision:
        if packet.ether_type == ARP or neighbour_message(packet):
            return Decision(True, "looks for a neighbour outside")
        address = _target(packet)
        if address is None:
            return Decision(False, "no plain IP")
        if _asks_for_an_address(packet):
            mac = packet.link(6, 6)
            remember = (("asked", mac),) if packet.ether_type == IPV4 else ()
            return Decision(True, "asks for an address", remember=remember)
        target = self._permission.beyond(address)
        return Passage(self._permission, packet, sender, target, remembered).decision()


def _target(packet: Packet) -> bytes | None:
    if packet.ether_type == IPV4:
        return packet.network(16, 4)
    return packet.network(24, 16) if packet.ether_type == IPV6 else None


def _looked_for(packet: Packet) -> bytes | None:
    """Return the address whose owner a neighbour's message is for, None for no such message."""
    if packet.ether_type == ARP:
        return packet.network(24, 4) or b""
    kind = neighbour_message(packet)
    if kind == b"\x87\x00":
        return packet.transport(8, 16) or b""
    if kind == b"\x88\x00":
        return packet.network(24, 16) or b""
    return b"" if kind else None


def _ports(packet: Packet) -> tuple[int, int] | None:
    found = packet.transport(0, 4)
    return (int.from_bytes(found[:2], "big"), int.from_bytes(found[2:], "big")) if found else None


def _asks_for_an_address(packet: Packet) -> bool:
    if packet.protocol != _UDP or not _whole(packet):
        return False
    if packet.ether_type == IPV4:
        return _target(packet) == _BROADCAST.packed and _ports(packet) == (_DHCP_CLIENT, _DHCP_SERVER)
    return _target(packet) == _DHCP6_SERVERS.packed and _ports(packet) == (_DHCP6_CLIENT, _DHCP6_SERVER)


def _whole(packet: Packet) -> bool:
    """Tell whether a packet is no fragment at all."""
    if packet.ether_type == IPV4:
        return int.from_bytes(packet.network(6, 2) or b"", "big") & 0x3FFF == 0
    return packet.network(6, 1) == b"\x11"


def _infrastructure(packet: Packet, sender: End, remembered: Remembered) -> str:
    """Return what service of the network a packet from outside is, "" for none."""
    if packet.ether_type == ARP:
        return "a neighbour outside"
    of_discovery = packet.network(6, 2) == b"\x3a\xff" and packet.protocol == _ICMPV6
    kind = packet.transport(0, 2) if packet.ether_type == IPV6 and of_discovery else None
    if kind in {b"\x87\x00", b"\x88\x00"}:
        return "a neighbour outside"
    if sender.is_machine:
        return ""
    of_dhcp = packet.protocol == _UDP and _whole(packet)
    if packet.ether_type == IPV6:
        start = packet.network(8, 2)
        of_the_link = start is not None and int.from_bytes(start, "big") & 0xFFC0 == 0xFE80
        if of_the_link and kind == b"\x86\x00":
            return "a router's advertisement"
        if of_the_link and of_dhcp and _ports(packet) == (_DHCP6_SERVER, _DHCP6_CLIENT):
            return "an address for a machine"
        return ""
    offers = of_dhcp and _ports(packet) == (_DHCP_SERVER, _DHCP_CLIENT)
    wanted = packet.link(0, 6) in remembered.asked or _target(packet) == _BROADCAST.packed
    return "an address for a machine" if offers and wanted else ""
