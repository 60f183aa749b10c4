"""Which interfaces of a host's machines get a port: who of several has a tap, or a MAC. Pure.

A MAC is had like an address, and on all hosts together: bridges learn from frames where a MAC is, so one that
two machines of one network have is that of the one that was heard last. A tap is of one host.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from undercroft.errors import InputError
from undercroft.firewall.fleet import TAP_BYTES, link_local
from undercroft.firewall.policy import Address
from undercroft.model.addresses import own_mac
from undercroft.model.domain import Interface
from undercroft.usecases.firewall.claims import Claims, Rank, winners
from undercroft.usecases.firewall.look import Standing, tapped

Nic = tuple[Claims, Interface]
Problem = tuple[str, str]
"""UUID of the machine that it is about, and the sentence, which begins with its name."""


def macs_of(claims: Iterable[Claims], standing: Standing) -> Mapping[str, Sequence[Nic]]:
    """Return the interfaces of machines that live, on whichever host, by their MACs."""
    found: dict[str, list[Nic]] = {}
    for claim in claims:
        if standing.is_live(claim.machine):
            for interface in filter(tapped, claim.machine.interfaces):
                found.setdefault(interface.mac.lower(), []).append((claim, interface))
    return found


def open_ports(
    here: Sequence[Claims],
    everywhere: Mapping[str, Sequence[Nic]],
    standing: Standing,
    uplinks: Sequence[str],
    own: Sequence[Address],
    problems: list[Problem],
) -> Iterator[Nic]:
    """Yield the interfaces that get a port; why others get none is added to `problems`.

    Args:
        here: the machines of this host, as it has them.
        everywhere: as `macs_of` returns it.
        standing: where machines are.
        uplinks: names that no machine's tap may have.
        own: the host's addresses.
        problems: is added to.
    """
    sound = []
    for claim in here:
        for interface in filter(tapped, claim.machine.interfaces):
            problem = _unsound(interface, uplinks, own)
            if problem:
                problems.append(_told(claim, problem))
            else:
                sound.append((claim, interface))

    def by_tap(nic: Nic, _tap: str) -> Rank:
        return False, -standing.began(nic[0].machine).timestamp(), nic[0].machine.uuid

    taps, lost = winners(sound, lambda nic: (nic[1].tap,), by_tap)
    problems += [
        _told(
            claim,
            f"{tap} is {taps[tap][0].machine.name}'s by now, whose execution began later;"
            " the next survey of the host puts it right",
        )
        for (claim, _), tap in lost
    ]
    # In the machines' order: of two interfaces of one machine with one MAC the first has it.
    held = [nic for nic in sound if taps[nic[1].tap] is nic]
    uuids = {claim.machine.uuid for claim in here}
    elsewhere = (
        nic
        for _, interface in held
        for nic in everywhere.get(interface.mac.lower(), ())
        if nic[0].machine.uuid not in uuids
    )
    is_here = {id(nic) for nic in held}
    macs, lost = winners([*held, *elsewhere], lambda nic: (nic[1].mac.lower(),), _by_mac)
    for nic, mac in lost:
        if id(nic) in is_here:
            problems.append(_told(nic[0], _has_other_s_mac(nic, macs[mac][0])))
    yield from (nic for nic in macs.values() if id(nic) in is_here)


def _by_mac(nic: Nic, _mac: str) -> Rank:
    return nic[0].rank(nic[1].mac)


def _has_other_s_mac(nic: Nic, other: Claims) -> str:
    claim, interface = nic
    host = "" if other.machine.host == claim.machine.host else other.machine.host
    return (
        f"{interface.tap} is closed: its MAC {interface.mac} is {other.machine.name}'s"
        f"{f' on {host}' if host else ''}, {because(other)}; give one of them another MAC with virsh edit"
        f"{if_gone(host) if host else ''}"
    )


def if_gone(host: str) -> str:
    """Return the end of a sentence: the cure where a host that has what another one claims is no more."""
    return f"; if {host} is gone for good: undercroft host forget {host} --reason TEXT"


def because(winner: Claims) -> str:
    """Return why one has what another one claims too."""
    return "whom the policy names" if winner.by_policy else "which has it longer"


def mac_bytes(interface: Interface) -> bytes:
    """Return an interface's MAC. Raises InputError for what no machine can have."""
    return bytes.fromhex(own_mac(interface.mac).replace(":", ""))


def _unsound(interface: Interface, uplinks: Sequence[str], own: Sequence[Address]) -> str:
    """Return why an interface can have no port, "" where it can."""
    try:
        mac = mac_bytes(interface)
        if not 0 < len(interface.tap.encode()) <= TAP_BYTES:
            raise ValueError(f"a device's name has 1 to {TAP_BYTES} bytes")
    except (InputError, ValueError) as error:
        return f"{interface.tap!r} with MAC {interface.mac!r} is closed: {error}"
    if interface.tap in uplinks:
        return (
            f"{interface.tap} is closed: it is called as an uplink of the policy is (ports.uplinks): "
            "give it another name (target dev) with virsh edit"
        )
    if link_local(mac) in own:
        return f"{interface.tap} is closed: MAC {interface.mac} is the host's: change it with virsh edit"
    return ""


def _told(claim: Claims, sentence: str) -> Problem:
    return claim.machine.uuid, f"{claim.machine.name}: {sentence}"
