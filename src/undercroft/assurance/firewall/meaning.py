"""What the policy wants of every packet at every hook, as Z3 terms, without the compiler.

A packet's mark tells whose it is. From a managed port it is the port's class, and nothing passes that bears
another's name (`senders`); on all other packets a mark of ours is no one's, and is taken off. From outside it
is what the source address says. The target is the port that the frame leaves by, with its MAC and address, or
what the target address says. Between the two the policy decides (`answers`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from undercroft.assurance.firewall.answers import Passing, Timing, equal_mark
from undercroft.assurance.firewall.ipversion import is_whole4
from undercroft.assurance.firewall.links import (
    asks_for_address,
    claims_anothers,
    looks_from_outside,
    neighbours,
    told_by_the_network,
)
from undercroft.assurance.firewall.places import HOST_MARK, KIND_MASK, OURS, OURS_MASK, Kind, Place
from undercroft.assurance.firewall.reading import Field, Reading, key, starts_with
from undercroft.assurance.firewall.running import Arrival, Passage, Written, room
from undercroft.assurance.firewall.senders import (
    ADVERTISEMENT,
    ARP,
    IPV4,
    IPV6,
    RARP,
    ROUTER_SOLICITATION,
    SOLICITATION,
    bears_a_name_from_here,
    may_send,
)
from undercroft.assurance.firewall.terms import (
    FALSE,
    TRUE,
    Bytes,
    Truth,
    both,
    chosen,
    constant,
    either,
    equal,
    negated,
)
from undercroft.assurance.firewall.whose import in_network, whose, wide_zones
from undercroft.firewall.kernel import Code, Hook, Verdict
from undercroft.firewall.policy import FirewallPolicy, OtherPorts

DHCP_MS = 60_000


@dataclass(slots=True)
class Meaning:
    """The meaning of a policy for one symbolic packet.

    Attributes:
        policy: whose.
        reading: the packet and the relations.
        places: all sides, of `places.places`.
        targets: those of them that packets may be for; the others have no flow and are denied.
        timing: how answers are known.
        cut: stop where a target is found; what then passes is `passing`.
    """

    policy: FirewallPolicy
    reading: Reading
    places: Sequence[Place]
    targets: frozenset[str]
    timing: Timing
    cut: bool = False
    _mark: Field = field(default_factory=lambda: Field(constant(bytes(4))))
    _accepted: list[Truth] = field(default_factory=list)
    _written: list[Written] = field(default_factory=list)
    _reached: dict[str, list[Truth]] = field(default_factory=dict)
    _found: list[Arrival] = field(default_factory=list)

    def at(self, hook: Hook, mark: Bytes) -> Passage:
        """Return what passes a hook, for a packet that comes there with a mark."""
        self._accepted, self._written, self._reached, self._found = [], [], {}, []
        before = Field(mark)
        match hook:
            case Hook.PREROUTING:
                return self._from_port(before)
            case Hook.FORWARD:
                after = self._forwarded(before)
            case Hook.INPUT:
                after = self._to_host(before)
            case Hook.OUTPUT:
                after = self._from_host(before)
            case Hook.POSTROUTING:
                return Passage(TRUE, mark, ())
        if self.cut:
            direct = [Arrival(f"to-{name}", (), either(found)) for name, found in self._reached.items()]
            return Passage(either(self._accepted), after.data, tuple(self._written), (*self._found, *direct))
        passing = Passing(self.reading, after, self.timing)
        for place in self.places:
            reached = self._reached.get(place.name)
            if reached:
                passing.to(place, either(reached))
        passed, written = passing.outcome()
        return Passage(either([*self._accepted, passed]), after.data, (*self._written, *written))

    def passing(self, place: Place, mark: Bytes) -> Passage:
        """Return what passes to one side, of packets that bear this mark."""
        passing = Passing(self.reading, Field(mark), self.timing)
        passing.to(place, TRUE)
        passed, written = passing.outcome()
        return Passage(passed, mark, written)

    def _from_port(self, mark: Field) -> Passage:
        reading = self.reading
        managed = reading.in_set("classes", reading.input_name)
        own = reading.sets.data("classes", reading.packet.input_name)
        foreign = chosen(_ours(mark), constant(bytes(4)), mark.data)
        accepted = either(
            [
                both(managed, self._untagged_or(self._in_vlan(Field(own))), may_send(reading)),
                both(
                    negated(managed),
                    negated(self._closed_in()),
                    negated(bears_a_name_from_here(reading)),
                ),
            ]
        )
        return Passage(accepted, chosen(managed, own, foreign), ())

    def _forwarded(self, mark: Field) -> Field:
        reading = self.reading
        sent, arrives = _ours(mark), reading.in_set("taps", reading.output_name)
        source_known, after = whose(reading, self.places, mark)
        from_outside = both(
            negated(sent), arrives, source_known, negated(equal_mark(after, 2**32 - 1, HOST_MARK))
        )
        if self.policy.ports.others is OtherPorts.DENIED:
            from_outside = both(from_outside, reading.in_set("uplinks", reading.input_name))
        nobodys = both(negated(sent), negated(arrives), negated(self._closed_out()))
        self._accepted.append(nobodys)
        self._mark = Field(chosen(both(negated(sent), arrives), after.data, mark.data))
        to_port = self._in_vlan(Field(reading.sets.data("classes", reading.output_name.data)))
        to_port = both(reading.in_set("classes", reading.output_name), to_port)
        going = both(sent, self._untagged_or(either([to_port, both(self._is_vlan(), self._leaves())])))
        coming = both(from_outside, self._untagged_or(to_port))
        self._reach(either([going, self._arrives(coming, after)]))
        return self._mark

    def _untagged_or(self, granted: Truth) -> Truth:
        return either([negated(self.reading.packet.tagged), granted])

    def _in_vlan(self, mark: Field) -> Truth:
        return self.reading.in_vlan(mark) if self.policy.vlans else FALSE

    def _is_vlan(self) -> Truth:
        packet = self.reading.packet
        return both(packet.tagged, equal(packet.tag[:2], b"\x81\x00")) if self.policy.vlans else FALSE

    def _to_host(self, mark: Field) -> Field:
        reading = self.reading
        managed = reading.in_set("taps", reading.input_name)
        self._accepted.append(both(negated(managed), negated(self._closed_in())))
        sent = both(managed, _ours(mark))
        self._accepted.append(both(sent, reading.is_plain(ARP)))
        looks = either(
            [neighbours(reading, kind) for kind in (SOLICITATION, ADVERTISEMENT, ROUTER_SOLICITATION)]
        )
        self._accepted.append(both(sent, reading.is_plain(IPV6), looks))
        self._outside(4, both(sent, reading.is_plain(IPV4)))
        self._outside(6, both(sent, reading.is_plain(IPV6), negated(looks)))
        return mark

    def _from_host(self, mark: Field) -> Field:
        reading = self.reading
        arrives = reading.in_set("taps", reading.output_name)
        self._accepted.append(both(negated(arrives), negated(self._closed_out())))
        arrives = both(arrives, negated(reading.packet.tagged), reading.is_said_rightly())
        routed = equal_mark(mark, KIND_MASK, OURS | (KIND_MASK & ~OURS_MASK))
        source_known, after = whose(reading, self.places, mark)
        own = both(arrives, negated(routed))
        self._mark = Field(chosen(own, after.data, mark.data))
        self._reach(either([both(arrives, routed), self._arrives(both(own, source_known), after)]))
        return self._mark

    def _closed(self, name: Field, is_tap: Truth) -> Truth:
        """A device that is a tap, or named as a machine's is, and is none that the filter knows."""
        return either([is_tap, *(starts_with(name.data, prefix) for prefix in self.policy.ports.machines)])

    def _closed_in(self) -> Truth:
        return self._closed(self.reading.input_name, self.reading.comes_by_tap)

    def _closed_out(self) -> Truth:
        return self._closed(self.reading.output_name, self.reading.leaves_by_tap)

    def _arrives(self, allowed: Truth, mark: Field) -> Truth:
        """Let in what the link itself says; return what else comes from outside."""
        allowed = both(allowed, negated(claims_anothers(self.reading, mark)))
        outside = equal_mark(mark, KIND_MASK, OURS)
        told = either([looks_from_outside(self.reading), both(outside, told_by_the_network(self.reading))])
        self._accepted.append(both(allowed, told))
        return both(allowed, negated(told))

    def _reach(self, sent: Truth) -> None:
        """Find the target on the bridge: a machine by its port, MAC and address, else what is outside."""
        reading = self.reading
        out = reading.output_name
        leaves = self._leaves()
        self._look_for("near4", both(sent, reading.holds(ARP)), reading.network(24, 4), leaves)
        self._accepted.append(both(sent, reading.is_plain(RARP), leaves))
        plain6 = both(sent, reading.holds(IPV6))
        asks, tells, routers = (
            neighbours(reading, kind) for kind in (SOLICITATION, ADVERTISEMENT, ROUTER_SOLICITATION)
        )
        self._look_for("near6", both(plain6, asks), reading.transport(8, 16), leaves)
        self._look_for("near6", both(plain6, tells), reading.network(24, 16), leaves)
        self._accepted.append(both(plain6, routers, leaves))
        rest6 = both(plain6, negated(either([asks, tells, routers])))
        whole = is_whole4(reading)
        for version, going, address in (
            (4, both(sent, reading.holds(IPV4)), reading.network(16, 4)),
            (6, rest6, reading.network(24, 16)),
        ):
            found = (out, reading.target_mac, address)
            if version == 4:
                self._by_class(f"targets{version}", both(going, whole), *found, chains="class-whole")
            others = both(going, negated(whole)) if version == 4 else going
            self._by_class(f"targets{version}", others, *found)
            known = reading.in_set(f"targets{version}", *found)
            self._outside(version, both(going, negated(known), leaves))

    def _leaves(self) -> Truth:
        """By a port that leads to the world."""
        out = self.reading.output_name
        if self.policy.ports.others is OtherPorts.DENIED:
            return both(self.reading.in_set("uplinks", out), negated(self.reading.leaves_by_tap))
        return negated(either([self.reading.in_set("taps", out), self._closed_out()]))

    def _look_for(self, name: str, going: Truth, address: Field, leaves: Truth) -> None:
        """ARP or neighbour discovery: for a machine, from those that it has flows with; outside, always."""
        reading = self.reading
        out = reading.output_name
        known, of_class = self._class(name, out, address, chains="class-near")
        self._accepted.append(both(going, negated(reading.in_set(name, out, address)), leaves))
        if self.cut:
            self._found.append(Arrival("class-near", of_class.data, both(going, known)))
            return
        for place in self.places:
            if place.kind is Kind.MACHINES:
                looked = self._gives("class-near", f"near-{place.name}", of_class)
                self._near(place, both(going, known, looked))

    def _near(self, place: Place, reached: Truth) -> None:
        if reached is not FALSE:
            knows = self.reading.in_set(f"near-{place.name}", self._mark)
            self._accepted.append(both(reached, knows))

    def _class(self, name: str, *fields: Field, chains: str) -> tuple[Truth, Field]:
        """Return whether a map has a class that has a chain, and the class's mark; one without is denied."""
        mark = Field(self.reading.sets.data(name, key(*fields)))
        return both(self.reading.in_set(name, *fields), self.reading.in_set(chains, mark)), mark

    def _by_class(self, name: str, going: Truth, *fields: Field, chains: str = "class-targets") -> None:
        known, mark = self._class(name, *fields, chains=chains)
        self._by_map(chains, both(going, known), mark)

    def _by_map(self, name: str, going: Truth, *fields: Field) -> None:
        known = self.reading.in_set(name, *fields)
        if self.cut:
            self._found.append(Arrival(name, key(*fields), both(going, known)))
            return
        start = "whole" if name == "class-whole" else "to"
        for place in self.places:
            if place.name in self.targets:
                reached = both(going, known, self._gives(name, f"{start}-{place.name}", *fields))
                self._add(place.name, reached)

    def _add(self, name: str, reached: Truth) -> None:
        if reached is not FALSE:
            self._reached.setdefault(name, []).append(reached)

    def _outside(self, version: int, going: Truth) -> None:
        """Find the target by its address: a machine elsewhere, the host, a zone, the world."""
        reading = self.reading
        address = reading.network(16, 4) if version == 4 else reading.network(24, 16)
        asks = asks_for_address(reading, version)
        if version == 4:
            mac = reading.source_mac
            asks = both(asks, either([reading.in_set("asked", mac), room("asked")]))
            self._written.append(Written("asked", both(going, asks), mac.data, DHCP_MS))
        self._accepted.append(both(going, asks))
        going = both(going, negated(asks))
        self._by_class(f"places{version}", going, address)
        going = both(going, negated(reading.in_set(f"places{version}", address)))
        self._by_map(f"named-targets{version}", going, address)
        going = both(going, negated(reading.in_set(f"named-targets{version}", address)))
        for place in wide_zones(self.places, version):
            assert place.network is not None
            inside = in_network(reading, 16 if version == 4 else 24, place.network)
            if place.name in self.targets:
                self._add(place.name, both(going, inside))
            going = both(going, negated(inside))
        self._add("world", going)

    def _gives(self, name: str, chain: str, *fields: Field) -> Truth:
        return self.reading.sets.gives(name, key(*fields), Verdict(Code.GOTO, chain))


def _ours(mark: Field) -> Truth:
    return equal_mark(mark, OURS_MASK, OURS)
