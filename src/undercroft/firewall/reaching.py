"""Chains that find the target of a packet, and each target's own chain with what may reach it.

A frame reaches a machine only with the MAC and an address of its port, so that flooding shows nothing to
others. Outside, the target is what the address says. Who opens what is one look-up in the target's set,
whatever the number of machines and flows.
"""

from undercroft.firewall import headers as h
from undercroft.firewall import marks
from undercroft.firewall.arriving import in_network
from undercroft.firewall.expressions import (
    ACCEPT,
    CONTENT,
    DROP,
    IN,
    MARK,
    OUT,
    PROTOCOL,
    Expressions,
    Field,
    decided,
    decided_by,
    equal,
    found,
    goto,
    jump,
    mapped,
    marked,
    masked,
    remembered,
    rule,
)
from undercroft.firewall.grants import Granted, Side
from undercroft.firewall.kernel import Chain, Code, Hook, Key, Limit, Log, Operator, Rule
from undercroft.firewall.policy import FirewallPolicy, LogRate, OtherPorts
from undercroft.firewall.senders import DENY, PRIORITY, closed_taps, is_tap
from undercroft.firewall.tracking import StateKind, answered_chain
from undercroft.firewall.vlans import granted_to_target, inside
from undercroft.firewall.zones import Zone, zones

DHCP_TIMEOUT_MS = 60_000

_OURS = marked(marks.PREFIX_MASK, marks.PREFIX)


def base_chains(policy: FirewallPolicy) -> tuple[Chain, ...]:
    """Return the base chains of what is forwarded, of what the host gets and of what it sends.

    They drop what comes to no verdict: a chain that has lost rules at its end denies. What concerns no
    machine is let through by a rule.
    """
    closed_out = [rule(tap, DENY) for tap in closed_taps(policy, Key.OUTPUT_NAME)]
    closed_in = [rule(tap, DENY) for tap in closed_taps(policy, Key.INPUT_NAME)]
    nobodys = rule(ACCEPT)
    forward = (
        rule(_OURS, goto("reach")),
        rule(found("taps", OUT), goto("from-uplink")),
        *closed_out,
        nobodys,
    )
    to_host = (rule(found("taps", IN), goto("enter")), *closed_in, nobodys)
    output = (rule(found("taps", OUT), goto("from-host")), *closed_out, nobodys)
    return (
        Chain("forward", forward, Hook.FORWARD, PRIORITY, Code.DROP),
        Chain("input", to_host, Hook.INPUT, PRIORITY, Code.DROP),
        Chain("output", output, Hook.OUTPUT, PRIORITY, Code.DROP),
    )


def reaching_chains(policy: FirewallPolicy, granted_zones: frozenset[int]) -> tuple[Chain, ...]:
    """Return the chains from a packet that bears a mark to its target's chain.

    Args:
        policy: for its zones, and what other ports are.
        granted_zones: marks of the zones that have a chain; others are denied.
    """
    found_zones = zones(policy)
    return (
        *_reach(policy),
        *_machines(policy),
        *_enter(),
        _target(4, found_zones, granted_zones),
        _target(6, found_zones, granted_zones),
        Chain("deny", _deny(policy.log)),
    )


def side_chains(side: Side, granted: Granted, log: LogRate, state: StateKind) -> tuple[Chain, ...]:
    """Return the chain of one target, that of later fragments, and for machines those of a short way to them.

    Later fragments are told apart first: they have no ports to be looked up. To `whole-`, for machines, come
    IPv4 packets that are no fragments, most of all there are. What neither opens nor answers goes on as all
    others do.
    """
    name = side.name
    told: tuple[Rule, ...] = ()
    if granted.logged and log.packets:
        told = (rule(found(f"logged-{name}", MARK, PROTOCOL, h.TARGET_PORT), _told(log, "allowed ")),)
    opens = found(f"to-{name}", MARK, PROTOCOL, h.TARGET_PORT)
    answers = found(f"back-{name}", MARK, PROTOCOL, h.SOURCE_PORT)
    rules = (
        rule(equal(CONTENT, h.IPV4), h.later4(), goto(f"later-{name}")),
        rule(equal(CONTENT, h.IPV6), h.later6(), goto(f"later-{name}")),
        *told,
        rule(opens, goto("opened")),
        rule(answers, goto(answered_chain(side, state))),
        rule(found(f"ping-{name}", MARK), jump("pinged")),
        rule(found(f"pong-{name}", MARK), jump("ponged")),
        rule(found(f"near-{name}", MARK), goto("other")),
        rule(DENY),
    )
    later = (rule(found(f"near-{name}", MARK), goto("pieces")), rule(DENY))
    chains = Chain(f"to-{name}", rules), Chain(f"later-{name}", later)
    if not side.is_machine:
        return chains
    opens4 = found(f"to-{name}", MARK, h.IPV4_PROTOCOL, h.TARGET_PORT)
    answers4 = found(f"back-{name}", MARK, h.IPV4_PROTOCOL, h.SOURCE_PORT)
    whole = (*told, rule(opens4, goto("whole-opened")), rule(answers4, goto("whole-answered")))
    return (
        *chains,
        Chain(f"whole-{name}", (*whole, rule(goto(f"to-{name}")))),
        Chain(f"near-{name}", (rule(found(f"near-{name}", MARK), ACCEPT), rule(DENY))),
    )


def _reach(policy: FirewallPolicy) -> tuple[Chain, ...]:
    """Return the chains of what machines send over the bridge, and of what the host has routed for them.

    A tag goes where the target may use the VLAN, and out; none comes from the host.
    """
    goes_to = ((h.IPV4, "reach4"), (h.IPV6, "reach6"), (h.ARP, "reach-arp"), (h.RARP, "leave"))
    plain = tuple(rule(equal(h.ETHER_TYPE, kind), goto(chain)) for kind, chain in goes_to)
    routed = Chain("routed", (*(rule(h.of_type(kind), goto(chain)) for kind, chain in goes_to), rule(DENY)))
    if not policy.vlans:
        return Chain("reach", (*plain, rule(DENY))), routed
    tagged = rule(equal(h.ETHER_TYPE, h.VLAN_TAG), goto("reach-tagged"))
    within = goto("reach-inside")
    return (
        Chain("reach", (*plain, tagged, rule(DENY))),
        routed,
        Chain("reach-tagged", (rule(granted_to_target(), within), *_inside(policy), rule(within))),
        inside("reach-inside", "reach4", "reach6", "reach-arp"),
    )


def _inside(policy: FirewallPolicy) -> tuple[Rule, ...]:
    """Return rules that keep on the bridge what may leave by an uplink only."""
    if policy.ports.others is OtherPorts.DENIED:
        # A tap is no uplink, though it be called one.
        return rule(found("uplinks", OUT, inverted=True), DENY), rule(is_tap(Key.OUTPUT_KIND), DENY)
    closed = (rule(tap, DENY) for tap in closed_taps(policy, Key.OUTPUT_NAME))
    return (rule(found("taps", OUT), DENY), *closed)


def _machines(policy: FirewallPolicy) -> tuple[Chain, ...]:
    """Return chains that find a machine behind the port, and else leave the bridge by an uplink only."""
    kept = _inside(policy)
    found4 = (OUT, h.ETHER_TARGET, h.IPV4_TARGET)
    elsewhere4 = (*kept, rule(goto("target4")))
    reach4 = (
        rule(h.fragment4(), goto("reach-pieces4")),
        *_by_class("targets4", *found4, verdicts="class-whole"),
        *elsewhere4,
    )
    reach6 = (
        *(rule(_neighbours(kind), goto(chain)) for kind, chain in _ND_CHAINS),
        *_by_class("targets6", OUT, h.ETHER_TARGET, h.IPV6_TARGET),
        *kept,
        rule(goto("target6")),
    )
    return (
        Chain("reach4", reach4),
        Chain("reach-pieces4", (*_by_class("targets4", *found4), *elsewhere4)),
        Chain("reach6", reach6),
        Chain("reach-arp", (*_looked_for("near4", h.ARP_TARGET), *kept, rule(ACCEPT))),
        Chain("reach-ns", (*_looked_for("near6", h.ND_TARGET), *kept, rule(ACCEPT))),
        Chain("reach-na", (*_looked_for("near6", h.IPV6_TARGET), *kept, rule(ACCEPT))),
        Chain("leave", (*kept, rule(ACCEPT))),
    )


def _by_class(map_name: str, *fields: Field, verdicts: str = "class-targets") -> tuple[Rule, ...]:
    """Go where a machine's class goes; go on with the next rules where the map has no machine.

    A class without a chain is denied, and not taken for somebody outside: a packet may ask for the class
    before a transaction, and for its chain after it.
    """
    return rule(decided_by(map_name, verdicts, *fields)), rule(mapped(map_name, *fields), DENY)


def _looked_for(map_name: str, address: Field) -> tuple[Rule, ...]:
    return _by_class(map_name, OUT, address, verdicts="class-near")


_ND_CHAINS = (
    (h.SOLICITATION, "reach-ns"),
    (h.ADVERTISEMENT, "reach-na"),
    (h.ROUTER_SOLICITATION, "leave"),
)


def _neighbours(kind: bytes) -> Expressions:
    return (
        *equal(PROTOCOL, h.ICMPV6),
        *equal(h.IPV6_NEXT_AND_HOPS, h.ND_NEXT_AND_HOPS),
        *equal(h.TYPE_AND_CODE, kind),
    )


def _enter() -> tuple[Chain, ...]:
    """Return chains for what the host's own stack gets from a machine, to keep or to route.

    Frames to the addresses that bridges keep for themselves skip prerouting: they have no mark.
    """
    enter = (
        rule(marked(marks.PREFIX_MASK, marks.PREFIX, Operator.UNEQUAL), DENY),
        rule(equal(h.ETHER_TYPE, h.IPV4), goto("target4")),
        rule(equal(h.ETHER_TYPE, h.IPV6), goto("enter6")),
        rule(equal(h.ETHER_TYPE, h.ARP), ACCEPT),
        rule(DENY),
    )
    enter6 = (*(rule(_neighbours(kind), ACCEPT) for kind, _ in _ND_CHAINS), rule(goto("target6")))
    return Chain("enter", enter), Chain("enter6", enter6)


def _target(version: int, found_zones: tuple[Zone, ...], granted_zones: frozenset[int]) -> Chain:
    """Return the chain for targets that are no machine's port. DHCP servers are asked as a group only."""
    if version == 4:
        target, ports, servers = h.IPV4_TARGET, h.DHCP_REQUEST, h.BROADCAST4
    else:
        target, ports, servers = h.IPV6_TARGET, h.DHCP6_REQUEST, h.DHCP6_SERVERS
    whole4 = masked(h.IPV4_FRAGMENT, h.ANY_FRAGMENT, bytes(2))
    whole = whole4 if version == 4 else equal(h.IPV6_NEXT, h.UDP)
    asks = (*equal(target, servers), *whole, *equal(PROTOCOL, h.UDP), *equal(h.PORTS, ports))
    asked = remembered("asked", DHCP_TIMEOUT_MS, h.ETHER_SOURCE) if version == 4 else ()
    rules = (
        rule(asks, asked, ACCEPT),
        *_by_class(f"places{version}", target),
        rule(decided(f"named-targets{version}", target)),
        *(
            rule(
                in_network(target, zone),
                goto(f"to-zone-{zone.index}") if zone.mark in granted_zones else DENY,
            )
            for zone in found_zones
            if zone.network.version == version and not zone.exact
        ),
        rule(goto("to-world")),
    )
    return Chain(f"target{version}", rules)


def _deny(log: LogRate) -> tuple[Rule, ...]:
    drop = rule(DROP)
    return (rule(_told(log, "denied ")), drop) if log.packets else (drop,)


def _told(log: LogRate, prefix: str) -> Expressions:
    return (Limit(log.packets, log.per_s, log.burst), Log(log.group, f"undercroft {prefix}", 128))
