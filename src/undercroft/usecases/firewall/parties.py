"""The two ends of what is asked about a service: machines, addresses, the world, the host."""

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from undercroft.errors import InputError, NotFoundError
from undercroft.firewall.fleet import Port
from undercroft.firewall.policy import Address, FirewallPolicy, PeerKind, Service
from undercroft.firewall.shapes import service as read_service
from undercroft.ports.records import Record
from undercroft.usecases.firewall.frames import Ends
from undercroft.usecases.firewall.members import Member, Members, members
from undercroft.usecases.firewall.reach import labels_text

_WORLD4, _WORLD6 = ip_address("203.0.113.1"), ip_address("2001:db8:ffff::1")
"""What stands for the world where no address is named: of the ranges for examples (RFC 5737, 3849)."""
_NAMED = 5
"""Machines that an error names."""
_ROUTER_MAC = bytes.fromhex("02000000fffe")
"""What stands for the MAC of a router or of the host; no rule asks for it."""


@dataclass(frozen=True, slots=True)
class Party:
    """One end of what is asked about.

    Attributes:
        name: as it was named.
        member: the machine, None for others.
        address: of something outside, or named; None where any will do.
        is_host: the host itself.
    """

    name: str
    member: Member | None = None
    address: Address | None = None
    is_host: bool = False

    @property
    def shown(self) -> str:
        """The name with the labels."""
        return f"{self.name} ({labels_text(self.member.labels)})" if self.member else self.name


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: may `source` open `service` of `target`?"""

    source: Party
    target: Party
    service: Service


def service_of(text: str) -> Service:
    """Return the one port that is asked about. Raises InputError for anything but "tcp/5432" or "icmp"."""
    found = read_service(text)
    if isinstance(found, str):
        raise InputError(f"SERVICE: {found.partition(', a name of services')[0]}")
    if found.low != found.high:
        raise InputError(f"SERVICE: {text} are several ports; name one")
    return found


def question_of(
    record: Record,
    policy: FirewallPolicy,
    host_addresses: Mapping[str, tuple[Address, ...]],
    ends: tuple[str, str],
    service: str,
) -> tuple[Question, Members]:
    """Return what is asked, and the machines with the views of the hosts that are concerned.

    Args:
        record: an open transaction.
        policy: that is asked.
        host_addresses: by host, as far as they are known.
        ends: who may open the service of whom.
        service: one, as `service_of` takes it.

    Raises:
        NotFoundError, InputError: as `party_of` and `service_of`.
    """
    wanted = service_of(service)
    known = members(record, policy, host_addresses, tuple(host_addresses))
    parties = [party_of(end, known, policy) for end in ends]
    concerned = {party.member.host for party in parties if party.member}
    everyone = members(record, policy, host_addresses, concerned)
    source, target = (party_of(end, everyone, policy) for end in ends)
    return Question(source, target, wanted), everyone


def party_of(text: str, everyone: Members, policy: FirewallPolicy) -> Party:
    """Return who is meant: a machine by name or UUID, an address or its name in the policy, "world", "host".

    Raises:
        NotFoundError: nobody.
        InputError: several machines have that name.
    """
    if text == PeerKind.WORLD.value:
        return Party(text)
    if text == PeerKind.HOST.value:
        return Party(text, is_host=True)
    found = [item for uuid, item in everyone.machines.items() if text in {uuid, item.name}]
    if len(found) > 1:
        each = ", ".join(f"{item.record.domain.uuid} on {item.host}" for item in found)
        raise InputError(f"{text}: {len(found)} machines have this name: {each}; give the UUID of one")
    if found:
        return Party(found[0].name, found[0])
    address = _named(text, policy)
    if address is not None:
        return _at(address, f"{text} at {address}", everyone)
    try:
        address = ip_address(text)
    except ValueError:
        raise NotFoundError(f"{text}: {_nobody(text, everyone, policy)}") from None
    return _at(address, text, everyone)


def _named(text: str, policy: FirewallPolicy) -> Address | None:
    """Return the first address that the policy's `addresses` give to a name, None for no such name."""
    networks = [network for named in policy.addresses if named.name == text for network in named.networks]
    return ip_address(str(next(iter(networks[0].hosts()), networks[0]))) if networks else None


def _nobody(text: str, everyone: Members, policy: FirewallPolicy) -> str:
    having = sorted(item.name for item in everyone.machines.values() if text in item.labels)
    if having:
        more = f" and {len(having) - _NAMED} more" if len(having) > _NAMED else ""
        return f"this is a label; name a machine that has it: {', '.join(having[:_NAMED])}{more}"
    if any(rule.name == text for rule in policy.labels):
        return "this is a label, and no machine has it; name a machine, an address, world or host"
    return (
        "no machine on record has this name, and it is no address and no name of the policy's addresses;"
        " possible: one of these, world, host; undercroft fleet lists the machines"
    )


def _at(address: Address, text: str, everyone: Members) -> Party:
    """Return whose an address is: a machine's, a host's, or of somebody outside, who is called `text`."""
    for item in everyone.machines.values():
        if address in item.addresses:
            return Party(f"{item.name} at {address}", item, address)
    hosts = [host for host, fleet in everyone.fleets.items() if address in fleet.host_addresses]
    return Party(f"{text} (host {hosts[0]})" if hosts else text, None, address, is_host=bool(hosts))


def ends_of(question: Question, everyone: Members, notes: list[str]) -> Ends | None:
    """Return MACs and addresses of the first packet, None where there can be none."""
    source, target = question.source, question.target
    for version in (4, 6):
        one = _address(source, target, version, everyone)
        other = _address(target, source, version, everyone)
        if one is not None and other is not None:
            return Ends(_mac(source, one), _mac(target, other), one, other)
    notes += [
        f"{party.name} has no address that anybody but itself has said: nothing reaches it"
        for party in (source, target)
        if party.member is not None and not party.member.addresses
    ]
    if not notes:
        notes.append(f"{source.name} and {target.name} have no addresses of one IP version")
    return None


def _address(party: Party, other: Party, version: int, everyone: Members) -> Address | None:
    if party.address is not None:
        return party.address if party.address.version == version else None
    if party.member is not None:
        return next((item for item in party.member.addresses if item.version == version), None)
    if party.is_host:
        fleet = everyone.fleets.get(other.member.host) if other.member else None
        own = fleet.host_addresses if fleet else ()
        usable = [item for item in own if item.version == version and not item.is_link_local]
        return next(iter(usable), None)
    return _WORLD4 if version == 4 else _WORLD6


def _mac(party: Party, address: Address) -> bytes:
    port = port_of(party, address)
    return port.mac if port else _ROUTER_MAC


def port_of(party: Party, address: Address) -> Port | None:
    """Return the interface of a machine that has an address; None where it does not run."""
    ports = party.member.ports if party.member else ()
    return next((port for port in ports if address in (*port.ipv4, *port.all_ipv6)), None)
