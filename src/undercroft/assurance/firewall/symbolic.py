"""What a table of the bridge family does with every packet, as Z3 terms.

Rules, verdicts and the stack of jumps are those of `nft_do_chain` (Linux 6, nf_tables_core.c); the order of
base chains is that of their priorities; `expressions` has what a rule is made of. A dormant table, chains
whose order is not known, and jumps to nowhere fail the proof and name their place.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from undercroft.assurance.firewall.comparing import AnotherShapeError
from undercroft.assurance.firewall.contents import Sets
from undercroft.assurance.firewall.expressions import Evaluator
from undercroft.assurance.firewall.packet import SymbolicPacket
from undercroft.assurance.firewall.running import Arrival, ChainRun, Cuts, Passage, RuleRun, Writes, Written
from undercroft.assurance.firewall.terms import (
    FALSE,
    TRUE,
    Bytes,
    Truth,
    both,
    chosen,
    either,
    negated,
)
from undercroft.errors import UnsupportedError
from undercroft.firewall.kernel import (
    Chain,
    Code,
    Expression,
    Hook,
    Immediate,
    Lookup,
    Table,
    Verdict,
)

MAX_JUMPS = 16
"""`NFT_JUMP_STACK_SIZE`: what a table may nest."""
DORMANT = 1
NO_CUTS = Cuts()


class Executor(Evaluator):
    """Runs a table's chains over a packet.

    A chain that packets go to for good runs once, for all that come to it; a chain that is jumped to runs
    once for each mark that packets may bring, and its outcome is taken over by each rule that jumps there.
    """

    def __init__(self, table: Table, packet: SymbolicPacket, sets: Sets, cuts: Cuts = NO_CUTS) -> None:
        """Take a table.

        Args:
            table: as it was read from the kernel.
            packet: any packet.
            sets: what sets and maps hold.
            cuts: where to end.

        Raises:
            UnsupportedError: the table does not filter at all, or its parts are not clear.
        """
        if table.flags & DORMANT:
            raise UnsupportedError(
                f"table {table.name}: it is dormant and filters nothing: apply the policy again"
            )
        for definition in table.sets:
            if definition.unknown:
                raise UnsupportedError(
                    f"set {definition.name}: it has {', '.join(definition.unknown)}, which the proof does "
                    "not know: apply the policy again"
                )
        super().__init__(table, packet, sets, cuts)
        self._chains = {chain.name: chain for chain in table.chains}
        self._table = table
        self._jumps: dict[tuple[object, ...], tuple[ChainRun, Bytes, Writes]] = {}
        self._order: list[str] | None = None
        if len(self._chains) != len(table.chains) or len(self._definitions) != len(table.sets):
            raise UnsupportedError(f"table {table.name}: two chains or two sets have one name: read it again")

    def hook(self, hook: Hook, mark: Bytes) -> Passage:
        """Return what the base chains of a hook do, in the order of their priorities.

        Args:
            hook: which.
            mark: of the packet when it comes there, 4 bytes in memory order.

        Raises:
            UnsupportedError: something that is not known here; the message names its place.
        """
        chains = sorted(
            (chain for chain in self._table.chains if chain.hook is hook), key=lambda chain: chain.priority
        )
        for one, other in pairwise(chains):
            if one.priority == other.priority:
                raise UnsupportedError(
                    f"chains {one.name} and {other.name}: both have priority {one.priority} at {hook}, "
                    "their order is not known: give them different ones"
                )
        self._hook = hook
        self._jumps.clear()
        live, written, arrivals = TRUE, list[Written](), list[Arrival]()
        for chain in chains:
            if chain.policy not in {Code.ACCEPT, Code.DROP}:
                raise UnsupportedError(f"chain {chain.name}: policy {chain.policy} is none of the kernel's")
            run = ChainRun(mark, pending={})
            self._base(chain, live, tuple(written), run)
            rest = [condition for condition, _ in run.returned] if chain.policy is Code.ACCEPT else []
            live, mark = either([*run.accepted, *rest]), run.mark
            written += run.written
            arrivals += run.arrivals
        return Passage(live, mark, tuple(written), tuple(arrivals))

    def chain(self, name: str, hook: Hook, mark: Bytes) -> Passage:
        """Return what one chain does for packets that go to it for good, none of which it may send back.

        Raises:
            UnsupportedError: as `hook`.
            AnotherShapeError: the chain may end without a verdict; then what counts is who went to it.
        """
        self._hook = hook
        self._jumps.clear()
        run = ChainRun(mark, pending={})
        if name not in self._chains:
            raise UnsupportedError(f"chain {name}: it is not in the table")
        self._base(self._chains[name], TRUE, (), run)
        if any(condition is not FALSE for condition, _ in run.returned):
            raise AnotherShapeError(f"chain {name} may end without a verdict")
        return Passage(either(run.accepted), run.mark, tuple(run.written), tuple(run.arrivals))

    def _base(self, chain: Chain, live: Truth, known: Writes, run: ChainRun) -> None:
        """Run a base chain, then what it goes to, each chain after all that may go there."""
        assert run.pending is not None
        run.pending[chain.name] = [(live, known)]
        for name in self._sorted():
            entries = run.pending.pop(name, [])
            if entries:
                known = _merged(writes for _, writes in entries)
                self._chain(self._chains[name], either([one for one, _ in entries]), known, run, 0)

    def _chain(self, chain: Chain, live: Truth, known: Writes, run: ChainRun, depth: int) -> None:
        """Run a chain's rules; what comes to no verdict is added to `run.returned`."""
        if depth > MAX_JUMPS:
            raise UnsupportedError(f"chain {chain.name}: jumps nest deeper than {MAX_JUMPS}")
        for place, rule in enumerate(chain.rules, 1):
            if live is FALSE:
                return
            frame = RuleRun(f"chain {chain.name}, rule {place}", live, known)
            for expression in rule.expressions:
                if frame.live is not FALSE:
                    self.expression(expression, frame, run)
            run.written += frame.writes
            # A verdict without a condition lets nothing by; the term would say so less plainly.
            whole = any(ended is live for ended in frame.ended)
            live = FALSE if whole else both(live, *(negated(ended) for ended in frame.ended))
            known = (*known, *frame.left())
            for condition, verdict in frame.verdicts:
                back = self._verdict(verdict, condition, frame, run, depth)
                if back is not None:
                    live, known = either([live, back[0]]), _merged((known, back[1]))
        run.returned.append((live, known))

    def _verdict(
        self, verdict: Verdict, condition: Truth, frame: RuleRun, run: ChainRun, depth: int
    ) -> tuple[Truth, Writes] | None:
        """Follow a verdict; return what comes back to the next rule."""
        known = (*frame.known, *frame.writes)
        match verdict.code:
            case Code.ACCEPT:
                run.accepted.append(condition)
            case Code.RETURN:
                run.returned.append((condition, known))
            case Code.GOTO if run.pending is not None and verdict.chain in self._cuts.chains:
                run.arrivals.append(Arrival(verdict.chain, (), condition, bool(known)))
            case Code.GOTO if run.pending is not None:
                target = self._target(verdict, frame.place)
                run.pending.setdefault(target.name, []).append((condition, known))
            case Code.GOTO:
                back = self._jump(self._target(verdict, frame.place), condition, known, run, depth)
                run.returned.append(back)
            case Code.JUMP:
                return self._jump(self._target(verdict, frame.place), condition, known, run, depth)
            case _:
                pass
        return None

    def _jump(
        self, chain: Chain, condition: Truth, known: Writes, run: ChainRun, depth: int
    ) -> tuple[Truth, Writes]:
        """Take over what a chain does, and return for which packets it comes to no verdict."""
        place = (chain.name, *map(id, run.mark), *map(id, known))
        if place in self._jumps:
            inner = self._jumps[place][0]
        else:
            inner, limits = ChainRun(run.mark), self._limits
            self._chain(chain, TRUE, known, inner, depth + 1)
            if self._limits == limits:  # where there is one, it may do something else the next time
                self._jumps[place] = (inner, run.mark, known)  # what is named by id has to stay alive
        run.accepted += [both(condition, accepted) for accepted in inner.accepted]
        run.written += [replace(write, condition=both(condition, write.condition)) for write in inner.written]
        run.mark = chosen(condition, inner.mark, run.mark)
        back = both(condition, either([returned for returned, _ in inner.returned]))
        return back, _merged(writes for returned, writes in inner.returned if returned is not FALSE)

    def _sorted(self) -> list[str]:
        """Return the chains, each after all that go or jump to it."""
        if self._order is None:
            done: dict[str, None] = {}
            for name in self._chains:
                self._visit(name, done, ())
            self._order = list(reversed(done))
        return self._order

    def _visit(self, name: str, done: dict[str, None], way: tuple[str, ...]) -> None:
        if name in way:
            raise UnsupportedError(f"chain {name}: it is reached from itself by {' -> '.join(way)}")
        if name in done:
            return
        for place, rule in enumerate(self._chains[name].rules, 1):
            for expression in rule.expressions:
                for verdict in self._given(expression):
                    if verdict.code in {Code.GOTO, Code.JUMP}:
                        target = self._target(verdict, f"chain {name}, rule {place}")
                        self._visit(target.name, done, (*way, name))
        done[name] = None

    def _given(self, expression: Expression) -> Sequence[Verdict]:
        if isinstance(expression, Immediate):
            return (expression.verdict,)
        if isinstance(expression, Lookup) and expression.verdicts:
            return self._sets.verdicts(expression.set_name)
        return ()

    def _target(self, verdict: Verdict, place: str) -> Chain:
        chain = self._chains.get(verdict.chain)
        if chain is None or chain.hook is not None:
            raise UnsupportedError(f"{place}: {verdict.code} to {verdict.chain!r}, no chain to go to")
        return chain


def _merged(parts: Iterable[Writes]) -> Writes:
    """Return what any of the ways has written, each once."""
    return tuple({id(write): write for part in parts for write in part}.values())
