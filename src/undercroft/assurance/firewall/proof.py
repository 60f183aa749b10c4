"""The proof that a table is the policy: rules for every packet, contents element by element, `never` rules.

    prover = Prover()
    answer = prover.prove(ruleset, policy, fleet, classes)
    answer = prover.prove_port(before, after, found)   # one machine's change, after a whole proof

What is proven once is kept: while bytecode, policy and classes are the same, only contents are compared.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from undercroft.assurance.firewall import expected
from undercroft.assurance.firewall.answers import Timing
from undercroft.assurance.firewall.certificate import (
    Certificate,
    Counterexample,
    Theorem,
    bytecode_digest,
)
from undercroft.assurance.firewall.nevers import breaches
from undercroft.assurance.firewall.search import Search
from undercroft.assurance.firewall.skeleton import Skeleton
from undercroft.errors import StateError, UnsupportedError
from undercroft.firewall.classes import Classes
from undercroft.firewall.fleet import Fleet, Port
from undercroft.firewall.kernel import Conntrack, Ruleset, SetDefinition, Table, Verdict
from undercroft.firewall.policy import FirewallPolicy

Answer = Certificate | Counterexample
Elements = Mapping[str, Mapping[bytes, bytes | Verdict | None]]

ASSUMPTIONS = (
    "the kernel evaluates nf_tables bytecode as Linux 6's net/netfilter does, on a host of its byte order",
    "the table was read from the kernel as it is, and nobody has changed it since that generation",
    "only the filter sets marks of its range (0x5543 above), and the host keeps them while it routes",
    "a frame's VLAN tag is the same at all hooks: the bridges filter no VLANs",
    "nothing takes, changes or delivers packets around the bridge's hooks: see the surroundings",
    "packets are of at most 65,535 bytes",
    "a packet's headers at later hooks are those that the first hook checked",
    "what is in a dynamic set was put there by these rules, within its timeout",
    "the fleet is as it was given: addresses and labels are the record's",
)
NOT_COVERED = (
    "what is logged, and at which rate",
    "what an allowed service does, and what a machine may learn from timing",
    "flows that were opened before an earlier policy ended: answers pass by the present policy",
    "frames to 01:80:c2:00:00:00 and 01:80:c2:00:00:0e, which the bridge hands to the host past all hooks",
    "interfaces that are no ports of a bridge: direct, hostdev, vhost-user, user-mode",
    "sizes of sets: a full one denies, it lets nothing by",
)


@dataclass(slots=True)
class _Known:
    """What was proven of a skeleton.

    Attributes:
        key: bytecode, policy and classes for which it holds.
        sides: of the policy, with their elements.
        theorems: what was shown.
    """

    key: tuple[str, str, tuple[tuple[frozenset[str], int], ...], tuple[object, ...]]
    sides: expected.Sides
    theorems: tuple[Theorem, ...]


@dataclass(slots=True)
class Prover:
    """Proves, and remembers what it has proven. Not for several threads at once.

    Attributes:
        now: tells the time, which certificates bear.
    """

    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _known: _Known | None = None
    _last: Certificate | None = None
    _numbers: dict[frozenset[str], int] = field(default_factory=dict)

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
        self._numbers = dict(classes.numbers)
        breach = next(breaches(policy, self._numbers), None)
        if breach is not None:
            return Counterexample(
                f"never {breach.never.source} -> {breach.never.target}", f"the policy allows {breach}"
            )
        sides = expected.sides(policy, self._numbers)
        expected.of_host(sides.contents, fleet.host_addresses)
        wanted = {**sides.contents, **expected.of_fleet(fleet, self._numbers)}
        try:
            return self._proven(ruleset, policy, fleet, sides, wanted)
        except UnsupportedError as error:
            return Counterexample("what the table says", str(error))

    def _proven(
        self,
        ruleset: Ruleset,
        policy: FirewallPolicy,
        fleet: Fleet,
        sides: expected.Sides,
        wanted: expected.Contents,
    ) -> Answer:
        table = ruleset.table
        differing, sentence = _differences(table, ruleset.elements, wanted)
        skeleton = _skeleton(ruleset, policy, sides)
        if differing:
            return _by_contents(skeleton, ruleset, wanted, differing, sentence)
        theorems = self._shown(table, policy, sides, skeleton, ruleset, wanted)
        if isinstance(theorems, Counterexample):
            return theorems
        checked = sum(map(len, wanted.values()))
        shown = (
            *theorems,
            Theorem("contents", "each set holds what policy and fleet say, no more and no less", checked),
            *(
                Theorem(
                    f"never {never.source} -> {never.target}",
                    f"no flow, over at most {never.hops} hops, from any class, zone, world or host",
                    len(sides.every) ** 2,
                )
                for never in policy.nevers
            ),
        )
        self._last = Certificate(
            table.name,
            ruleset.generation,
            policy.digest,
            _fleet_digest(fleet),
            bytecode_digest(table),
            checked,
            shown,
            ASSUMPTIONS,
            NOT_COVERED,
            self.now(),
        )
        return self._last

    def prove_port(self, before: Port | None, after: Port | None, found: Elements, generation: int) -> Answer:
        """Prove that one port's change is what the policy says, after a whole proof.

        Args:
            before: the port as it was, None where it is new.
            after: the port as it is, None where it is gone.
            found: what the kernel has for `keys_of(before, after)`; untrusted.
            generation: of the kernel's tables when it was read. The caller has seen to it that since the
                last proof nobody else has changed anything.

        Raises:
            StateError: there was no whole proof before, or no class has the port's labels.
        """
        if self._last is None:
            raise StateError("firewall: a single port is proven after the whole table only: prove that first")
        wanted = _port_contents(after, self._numbers)
        for name, keys in keys_of(before, after).items():
            for key in sorted(keys):
                want, have = wanted[name].get(key, _ABSENT), found.get(name, {}).get(key, _ABSENT)
                if want != have:
                    return Counterexample(
                        f"contents of {name}", "the element is not what the policy says", name, key,
                        _told(want), _told(have),
                    )  # fmt: skip
        self._last = replace(self._last, generation=generation, proven_at=self.now(), signature="", key="")
        return self._last

    def _shown(
        self,
        table: Table,
        policy: FirewallPolicy,
        sides: expected.Sides,
        skeleton: Skeleton,
        ruleset: Ruleset,
        wanted: expected.Contents,
    ) -> tuple[Theorem, ...] | Counterexample:
        classes = tuple(sorted(self._numbers.items(), key=lambda item: item[1]))
        given = tuple(sorted((name, tuple(verdicts)) for name, verdicts in skeleton.given.items()))
        key = (bytecode_digest(table), policy.digest, classes, given)
        if self._known is not None and self._known.key == key:
            return self._known.theorems
        failed = skeleton.unshown()
        if failed:
            # A packet settles it; without one it may be another way to write the same.
            found = _by_rules(skeleton, ruleset, wanted, failed)
            if found.packet is not None or skeleton.unequal():
                return found
        theorems = (
            Theorem("rules", "at each hook, for every packet, the rules pass what the policy passes", 5),
            Theorem("sides", "each side's chain passes what the policy allows to it", len(sides.targets)),
            Theorem("state", "what is remembered is what was opened, and nothing else"),
        )
        self._known = _Known(key, sides, theorems)
        return theorems


_ABSENT = object()


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


def _skeleton(ruleset: Ruleset, policy: FirewallPolicy, sides: expected.Sides) -> Skeleton:
    table = ruleset.table
    given = {
        item.name: _verdicts(ruleset.elements.get(item.name, {}).values())
        for item in table.sets
        if item.data == "verdict"
    }
    tracked = any(
        isinstance(expression, Conntrack)
        for chain in table.chains
        for rule in chain.rules
        for expression in rule.expressions
    )
    timing = Timing(tracked, policy.tcp_state_s * 1000, policy.other_state_s * 1000)
    return Skeleton(table, policy, sides.every, sides.targets, timing, given)


def _verdicts(data: Iterable[bytes | Verdict | None]) -> tuple[Verdict, ...]:
    """Return each verdict once, in an order that does not hang on the elements'."""
    once = {id(item): item for item in data}.values()
    found = {item for item in once if isinstance(item, Verdict)}
    return tuple(sorted(found, key=lambda verdict: (verdict.code, verdict.chain)))


def _differences(
    table: Table, found: Elements, wanted: expected.Contents
) -> tuple[dict[str, list[bytes]], str]:
    """Return set -> keys whose elements differ, and a sentence about the first."""
    dynamic = {item.name for item in table.sets if item.dynamic}
    definitions = {item.name for item in table.sets}
    for name in wanted:
        if name not in definitions:
            raise UnsupportedError(f"set {name}: it is not in the table: apply the policy again")
    differing: dict[str, list[bytes]] = {}
    for definition in table.sets:
        name = definition.name
        have, want = found.get(name, {}), wanted.get(name)
        if name in dynamic:
            continue
        if want is None:
            raise UnsupportedError(f"set {name}: it is none of the policy's: apply the policy again")
        _check_timeouts(definition)
        if have != want:
            differing[name] = sorted(_unequal(have, want))
    first = next(iter(differing), "")
    return differing, f"{len(differing.get(first, ()))} elements are not what policy and fleet say"


def _check_timeouts(definition: SetDefinition) -> None:
    if definition.timeout_ms:
        raise UnsupportedError(
            f"set {definition.name}: its elements end by themselves: apply the policy again"
        )


def _unequal(
    have: Mapping[bytes, bytes | Verdict | None], want: Mapping[bytes, bytes | Verdict | None]
) -> Iterator[bytes]:
    for key in have.keys() | want.keys():
        if have.get(key, _ABSENT) != want.get(key, _ABSENT):
            yield key


def _by_contents(
    skeleton: Skeleton,
    ruleset: Ruleset,
    wanted: expected.Contents,
    differing: Mapping[str, Sequence[bytes]],
    sentence: str,
) -> Counterexample:
    name = next(iter(differing))
    key = differing[name][0]
    plain = Counterexample(
        f"contents of {name}",
        sentence,
        name,
        key,
        _told(wanted[name].get(key, _ABSENT)),
        _told(ruleset.elements.get(name, {}).get(key, _ABSENT)),
    )
    return _with_packet(plain, Search(skeleton, ruleset, wanted, differing))


def _by_rules(skeleton: Skeleton, ruleset: Ruleset, wanted: expected.Contents, failed: str) -> Counterexample:
    plain = Counterexample(
        f"rules {failed}", "the kernel's rules treat some packet otherwise than the policy"
    )
    return _with_packet(plain, Search(skeleton, ruleset, wanted))


def _with_packet(plain: Counterexample, search: Search) -> Counterexample:
    found = next(search.packets(), None)
    if found is None:
        return plain
    return replace(
        plain,
        packet=found.packet,
        kernel_passes=found.kernel_passes,
        policy_passes=found.policy_passes,
    )


def _told(data: object) -> str:
    match data:
        case bytes():
            return data.hex()
        case Verdict(code, chain):
            return f"{code} {chain}".strip()
        case None:
            return "present"
        case _:
            return "absent"


def _fleet_digest(fleet: Fleet) -> str:
    """Return SHA-256 over machines, ports, addresses and labels, in any order."""
    parts = [
        b"\0".join(
            (
                port.tap.encode(),
                port.mac,
                port.machine.encode(),
                ",".join(sorted(port.labels)).encode(),
                b"arriving" if port.arriving else b"",
                *(int(address).to_bytes(16, "big") for address in (*port.ipv4, *port.ipv6)),
            )
        )
        for port in fleet.ports
    ]
    parts += [
        repr((item.machine, sorted(item.labels), sorted(map(str, item.addresses)))).encode()
        for item in fleet.elsewhere
    ]
    host = repr((fleet.host, sorted(map(str, fleet.host_addresses)))).encode()
    return hashlib.sha256(b"\n".join((host, *sorted(parts)))).hexdigest()
