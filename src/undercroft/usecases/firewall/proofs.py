"""What has been proven of the table, and what has to be proven again after a change.

After a proof of the whole, a machine's change is proven alone: the elements of its ports are looked up, and
compared with what the policy wants of them. Changes whose ports have elements in common are proven as a whole
again, as are too many at once. The prover is loaded with the first proof: an agent without an applied policy
needs none, and Z3 takes 30 MB; most of it is given back after each.
"""

from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from undercroft.assurance.firewall.certificate import Answer, Certificate, Counterexample
from undercroft.errors import NotFoundError, OperationError
from undercroft.firewall.fleet import Port
from undercroft.firewall.kernel import Ruleset
from undercroft.ports.packetfilter import PacketFilter
from undercroft.usecases.firewall.delta import Change
from undercroft.usecases.firewall.holding import Held

if TYPE_CHECKING:
    from undercroft.assurance.firewall.proof import Prover

MOST_PORTS = 32
"""That are proven one by one."""

_Pair = tuple[Port | None, Port | None]


class Proofs:
    """Not for several threads at once."""

    def __init__(self, packet_filter: PacketFilter, clock: Callable[[], datetime]) -> None:
        self._filter = packet_filter
        self._clock = clock
        # The last proof's; a list of its own for each, so that a proof that was overtaken leaves nothing.
        self._certificates: list[Certificate] = []
        self._gone: list[Port] = []
        self._come: list[Port] = []
        self._passing: list[Port] = []

    @cached_property
    def _prover(self) -> "Prover":
        from undercroft.assurance.firewall.proof import Prover  # noqa: PLC0415 - with the first proof

        return Prover(self._clock)

    def forget(self) -> None:
        """Let nothing be proven any more: the whole has changed."""
        self._certificates = []
        self._gone, self._come, self._passing = [], [], []

    def note(self, change: Change) -> None:
        """Note one machine's change, which is to be proven."""
        self._passing += [port for port in change.gone if port in self._come]
        self._gone += [port for port in change.gone if port not in self._come]
        self._come = [port for port in self._come if port not in change.gone] + list(change.come)
        machines = change.gone_elsewhere or change.come_elsewhere
        if machines or len(self._gone) + len(self._come) + len(self._passing) > MOST_PORTS:
            self.forget()

    def changed(self, held: Held, generation: int) -> Answer | None:
        """Prove what has changed since the last proof; None where the whole has to be.

        Args:
            held: what the kernel should have.
            generation: since the last proof nobody else has changed anything up to it.
        """
        answer = self._changed(held, generation)
        if answer is None:
            self.forget()  # a part of the changes may have been proven: nothing is proven twice
        return answer

    def _changed(self, held: Held, generation: int) -> Answer | None:
        pairs = _paired(self._gone, self._come)
        if not self._certificates or pairs is None or generation != self._filter.generation():
            return None
        try:
            if any(self._filter.find(held.table, self._left_behind()).values()):
                return None
            for before, after in pairs:
                found = self._filter.find(held.table, _keys_of(before, after))
                answer = self._prover.prove_port(before, after, found, generation)
                if isinstance(answer, Counterexample):
                    return None
                self._certificates = [answer]
        except (NotFoundError, OperationError):
            return None
        if generation != self._filter.generation():
            return None
        self._gone, self._come, self._passing = [], [], []
        return self._certificates[0]

    def _left_behind(self) -> dict[str, set[bytes]]:
        """Return the keys of ports that came and went since the last proof, which nobody is to have."""
        keys: dict[str, set[bytes]] = {}
        for port in self._passing:
            for name, found in _keys_of(port, None).items():
                keys.setdefault(name, set()).update(found)
        for port in self._come:
            for name, found in _keys_of(port, None).items():
                keys.get(name, set()).difference_update(found)
        return keys

    def begun(self, held: Held, ruleset: Ruleset) -> Callable[[], Answer]:
        """Return the proof of a table that was read, which needs nothing but the prover.

        Changes may be noted meanwhile: they are proven after it. Who calls it sees to it that no other proof
        runs.
        """
        self.forget()
        certificates = self._certificates
        policy, fleet, classes = held.policy, held.standing.fleet, held.classes

        def prove() -> Answer:
            try:
                answer = self._prover.prove(ruleset, policy, fleet, classes)
            finally:
                _give_back()
            if isinstance(answer, Certificate):
                certificates.append(answer)
            return answer

        return prove


def _paired(gone: list[Port], come: list[Port]) -> list[_Pair] | None:
    """Return each port that came with the one that it has elements in common with; None where it has several.

    No two pairs have an element in common, so that what one wants to be absent no other wants to be there.
    """
    keys = {id(port): _keys(port) for port in (*gone, *come)}
    pairs: list[_Pair] = []
    left = list(gone)
    for port in come:
        meeting = [old for old in gone if keys[id(old)] & keys[id(port)]]
        if len(meeting) > 1 or any(old not in left for old in meeting):
            return None
        left = [old for old in left if old not in meeting]
        pairs.append((meeting[0] if meeting else None, port))
    return [*pairs, *((old, None) for old in left)]


def _keys_of(before: Port | None, after: Port | None) -> dict[str, set[bytes]]:
    from undercroft.assurance.firewall.proof import keys_of  # noqa: PLC0415 - a proof came before

    return keys_of(before, after)


def _give_back() -> None:
    from undercroft.assurance.firewall.terms import give_back  # noqa: PLC0415 - a proof came before

    give_back()


def _keys(port: Port) -> set[tuple[str, bytes]]:
    return {(name, key) for name, keys in _keys_of(port, None).items() for key in keys}
