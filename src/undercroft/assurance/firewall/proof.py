"""The proof that a table is the policy: rules for every packet, contents element by element, `never` rules.

    prover = Prover()
    answer = prover.prove(ruleset, policy, fleet, classes)
    answer = prover.prove_port(before, after, found)   # one machine's change, after a whole proof

What is proven once is kept: while bytecode, policy and classes are the same, only contents are compared.
Steps of `prove`:
1. no flow of the policy breaks a `never` rule of it;
2. the table is made of nothing but what the model knows (`shape`);
3. each set holds what policy and fleet want in it (`expected`, `differences`);
4. the rules pass what the policy passes, for every packet and whatever the sets hold (`skeleton`);
5. no flow of the policy breaks a `never` rule of it by the addresses that machines and the host bear.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from undercroft.assurance.firewall import expected
from undercroft.assurance.firewall.answers import Timing
from undercroft.assurance.firewall.assumptions import ASSUMPTIONS, NOT_COVERED
from undercroft.assurance.firewall.bearers import Bearing
from undercroft.assurance.firewall.certificate import (
    Answer,
    Certificate,
    Counterexample,
    Theorem,
    bytecode_digest,
)
from undercroft.assurance.firewall.differences import (
    Elements,
    by_contents,
    by_rules,
    differing_keys,
    first_difference,
)
from undercroft.assurance.firewall.fleetdigest import FleetDigest
from undercroft.assurance.firewall.nevers import Breach, Nevers
from undercroft.assurance.firewall.shape import check_shape
from undercroft.assurance.firewall.skeleton import HOOKS, Skeleton
from undercroft.errors import StateError, UnsupportedError
from undercroft.firewall.classes import Classes
from undercroft.firewall.fleet import Fleet, Port
from undercroft.firewall.kernel import Conntrack, Ruleset, Table, Verdict
from undercroft.firewall.policy import FirewallPolicy, Never, PeerKind

__all__ = ["CONTENTS", "Answer", "Prover", "keys_of"]

CONTENTS = "contents"
"""Name of the theorem whose cases are elements."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What follows from a policy and the numbers of classes alone.

    Attributes:
        policy: the one.
        numbers: labels -> number of the class.
        digest: of the policy.
        nevers: its `never` rules.
        breach: how the policy breaks them whatever machines there are, None where it does not.
        sides: of the policy, with their elements.
        given: map of verdicts -> all verdicts that it may have with any machines.
    """

    policy: FirewallPolicy
    numbers: Mapping[frozenset[str], int]
    digest: str
    nevers: Nevers
    breach: Breach | None
    sides: expected.Sides
    given: Mapping[str, tuple[Verdict, ...]]

    @classmethod
    def of(cls, policy: FirewallPolicy, numbers: Mapping[frozenset[str], int]) -> "_Wanted":
        """Compute it."""
        sides = expected.sides(policy, numbers)
        nevers = Nevers(policy, numbers)
        return cls(policy, numbers, policy.digest, nevers, nevers.breach(), sides, expected.verdicts(sides))

    def contents(self, fleet: Fleet) -> expected.Contents:
        """Return the elements of all sets that packets do not write."""
        contents = {name: dict(held) for name, held in self.sides.contents.items()}
        expected.of_host(contents, fleet.host_addresses)
        return {**contents, **expected.of_fleet(fleet, self.numbers)}


@dataclass(frozen=True, slots=True)
class _Shown:
    """What was shown of a table's rules; it holds for whatever its sets contain."""

    wanted: _Wanted
    table: Table
    bytecode_digest: str
    theorems: tuple[Theorem, ...]


@dataclass(slots=True)
class Prover:
    """Proves, and remembers what it has proven. Not for several threads at once.

    Attributes:
        now: tells the time, which certificates bear.
    """

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _wanted: _Wanted | None = None
    _shown: _Shown | None = None
    _last: Certificate | None = None
    _machines: FleetDigest | None = None
    _bearing: Bearing = field(default_factory=dict)

    def prove(self, ruleset: Ruleset, policy: FirewallPolicy, fleet: Fleet, classes: Classes) -> Answer:
        """Prove that a table is a policy for these machines.

        Args:
            ruleset: as it was read from the kernel; untrusted, it may hold anything.
            policy: what is wanted.
            fleet: the machines.
            classes: the numbers of their classes.

        Returns:
            A certificate, or the first difference with a packet that shows it, where one was found.

        Raises:
            StateError: a machine has no class: the fleet does not fit to the classes.
        """
        self._last = None
        known = self._wanted
        if known is None or known.numbers != classes.numbers or known.policy != policy:
            known = self._wanted = _Wanted.of(policy, dict(classes.numbers))
        if known.breach is not None:
            return _broken(known.breach)
        contents = known.contents(fleet)
        try:
            shown = self._proven(ruleset, known, contents)
        except UnsupportedError as error:
            return Counterexample("what the table says", str(error))
        if isinstance(shown, Counterexample):
            return shown
        self._bearing = known.nevers.bearing(fleet)
        breach = known.nevers.breach(self._bearing) if self._bearing else None
        if breach is not None:
            return _broken(breach)
        self._machines = FleetDigest(fleet)
        self._last = Certificate(
            ruleset.table.name,
            ruleset.generation,
            known.digest,
            self._machines.hexdigest(),
            shown.bytecode_digest,
            sum(map(len, contents.values())),
            shown.theorems,
            ASSUMPTIONS,
            NOT_COVERED,
            self.now(),
        )
        return self._last

    def prove_port(self, before: Port | None, after: Port | None, found: Elements, generation: int) -> Answer:
        """Prove that one port's change is what the policy says, after a whole proof.

        After a difference nothing is proven of the table until the whole is.

        Args:
            before: the port as it was, None where it is new.
            after: the port as it is, None where it is gone.
            found: what the kernel has for `keys_of(before, after)`; untrusted.
            generation: of the kernel's tables when it was read. The caller has seen to it that since the
                last proof nobody else has changed anything.

        Raises:
            StateError: there is no whole proof that still holds, or no class has the port's labels.
        """
        last, machines, wanted = self._last, self._machines, self._wanted
        if last is None or machines is None or wanted is None:
            raise StateError("firewall: a single port is proven after the whole table only: prove that first")
        contents = _port_contents(after, wanted.numbers)
        keys = keys_of(before, after)
        different = first_difference(found, contents, keys)
        if different is not None:
            self._last = None
            return different
        bearing = wanted.nevers.bearing_with(self._bearing, after) if after is not None else self._bearing
        # What is known was looked at, and who goes takes nothing but ways.
        breach = wanted.nevers.breach(bearing) if bearing is not self._bearing else None
        if breach is not None:
            self._last = None
            return _broken(breach)
        self._bearing = bearing
        machines.replace(before, after)
        gone = sum(map(len, keys_of(before, None).values()))
        elements = last.elements - gone + sum(map(len, contents.values()))
        self._last = replace(
            last,
            generation=generation,
            fleet_digest=machines.hexdigest(),
            elements=elements,
            theorems=tuple(
                replace(theorem, cases=elements) if theorem.name == CONTENTS else theorem
                for theorem in last.theorems
            ),
            proven_at=self.now(),
            signature="",
            key="",
        )
        return self._last

    def _proven(
        self, ruleset: Ruleset, wanted: _Wanted, contents: expected.Contents
    ) -> _Shown | Counterexample:
        """Take steps 2 to 4."""
        table, shown = ruleset.table, self._shown
        same = shown is not None and shown.wanted is wanted and shown.table == table
        if not same:
            check_shape(table, contents)
        differing = differing_keys(ruleset.elements, contents)
        if differing:
            return by_contents(_skeleton(table, wanted), ruleset, contents, differing)
        if shown is None or not same:
            skeleton = _skeleton(table, wanted)
            failed = skeleton.unshown()
            if failed:
                # A packet settles it; without one it may be another way to write the same.
                example = by_rules(skeleton, ruleset, contents, failed)
                if example.packet is not None or skeleton.unequal():
                    return example
            self._shown = shown = _Shown(wanted, table, bytecode_digest(table), _theorems(wanted))
        told = "each set holds what policy and fleet say, no more and no less"
        checked = sum(map(len, contents.values()))
        return replace(shown, theorems=(*shown.theorems, Theorem(CONTENTS, told, checked)))


def _broken(breach: Breach) -> Counterexample:
    never = breach.never
    return Counterexample(f"never {never.source} -> {never.target}", f"the policy allows {breach}")


def keys_of(before: Port | None, after: Port | None) -> dict[str, set[bytes]]:
    """Return the keys that a port's change concerns: set -> keys."""
    keys: dict[str, set[bytes]] = {}
    for port in (before, after):
        if port is not None:
            for name, elements in _port_contents(port, {port.labels: 1}).items():
                keys.setdefault(name, set()).update(elements)
    return keys


def _port_contents(port: Port | None, numbers: Mapping[frozenset[str], int]) -> expected.Contents:
    contents = expected.of_fleet(Fleet("", (), ()), numbers)
    if port is not None:
        expected.of_port(contents, port, expected.number_of(port.name, port.labels, numbers))
    return contents


def _skeleton(table: Table, wanted: _Wanted) -> Skeleton:
    policy, sides = wanted.policy, wanted.sides
    tracked = any(
        isinstance(expression, Conntrack)
        for chain in table.chains
        for rule in chain.rules
        for expression in rule.expressions
    )
    timing = Timing.of(policy, conntrack=tracked)
    return Skeleton(table, policy, sides.every, sides.targets, timing, wanted.given)


def _by_address(never: Never) -> str:
    by_network = PeerKind.NETWORK in {never.source.kind, never.target.kind}
    return "; nor from or to who bears an address in its networks" if by_network else ""


def _theorems(wanted: _Wanted) -> tuple[Theorem, ...]:
    return (
        Theorem("rules", "at each hook, for every packet, the rules pass what the policy passes", len(HOOKS)),
        Theorem("sides", "each side's chain passes what the policy allows to it", len(wanted.sides.targets)),
        Theorem("state", "what is remembered is what was opened, and nothing else"),
        *(
            Theorem(
                f"never {never.source} -> {never.target}",
                f"no flow, over at most {never.hops} hops, from any class, zone, world or host"
                + _by_address(never),
                len(wanted.sides.every) ** 2,
            )
            for never in wanted.policy.nevers
        ),
    )
