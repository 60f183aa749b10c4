"""`ports.packetfilter.PacketFilter` on the kernel, in the network namespace of the thread that asks first.

Sockets are kept for the next question, as many as there were questions at once.
"""

import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import TypeVar

from undercroft.adapters.nftables import codec, events, reading
from undercroft.adapters.nftables.bystander import Bystander
from undercroft.adapters.nftables.difference import (
    elements_changed,
    elements_remembered,
    recreated,
    sets_named,
)
from undercroft.adapters.nftables.failures import FullError, StaleError
from undercroft.adapters.nftables.fields import UnknownShapeError
from undercroft.adapters.nftables.probe import probe
from undercroft.adapters.nftables.stages import stages
from undercroft.adapters.nftables.wire import Channel, InterruptedDumpError, Request
from undercroft.errors import InputError, NotFoundError, OperationError, StateError
from undercroft.firewall.kernel import Ruleset, Table
from undercroft.ports.packetfilter import (
    Elements,
    FilterFeatures,
    GenerationChange,
    Keys,
    TableName,
    Timeouts,
)

ATTEMPTS = 20
FREE_ATTEMPTS = 3
"""How often is read while this process goes on changing; after these its changes wait for the reading."""

COMMIT_ATTEMPTS = 500
"""To find a moment between the changes that others make of their own tables."""

_OWNED = 2
_GENERATIONS = 1 << 32
_T = TypeVar("_T")


class Nftables:
    """The packet filter of the network namespace. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._idle: list[Channel] = []
        self._lock = threading.Lock()
        self._changing = threading.RLock()
        self._ports: set[int] = set()
        self._watched: dict[str, tuple[Bystander, int]] = {}

    def __enter__(self) -> "Nftables":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the sockets; the next question opens one again. No rule depends on them."""
        with self._lock:
            idle, self._idle = self._idle, []
            watched, self._watched = self._watched, {}
        for channel in idle:
            self._closed(channel)
        for bystander, _ in watched.values():
            bystander.close()

    def generation(self) -> int:
        """See `PacketFilter.generation`."""
        with self._channel() as channel:
            return reading.read_generation(channel)

    def untouched(self, table: str, since: int) -> int:
        """See `PacketFilter.untouched`."""
        with self._changing, self._channel() as channel:
            if table in self._watched:
                bystander, start = self._watched[table]
                present = reading.read_generation(channel)
                if bystander.calm(channel):
                    return present if since and (since - start) % _GENERATIONS < _GENERATIONS // 2 else 0
                bystander.close()
            bystander = Bystander(table, self._ports)
            present = reading.read_generation(channel)
            self._watched[table] = bystander, present
            return present if present == since else 0

    def tables(self) -> tuple[TableName, ...]:
        """See `PacketFilter.tables`."""
        return self._read(reading.read_tables)

    def features(self) -> FilterFeatures:
        """See `PacketFilter.features`."""
        with self._channel() as channel:
            return probe(channel)

    def read(self, table: str, sets: Collection[str] | None = None, *, written: bool = True) -> Ruleset:
        """See `PacketFilter.read`."""
        wanted = reading.Wanted(sets, written)
        for _ in range(FREE_ATTEMPTS):
            with self._channel() as channel, suppress(InterruptedDumpError):
                return reading.read_ruleset(channel, table, wanted)
        for _ in range(ATTEMPTS):
            with self._changing, Bystander(table) as bystander, self._channel() as channel:
                try:
                    return reading.read_among_others(channel, table, wanted, bystander)
                except InterruptedDumpError as error:
                    interrupted = error
        raise OperationError(
            f"{interrupted}, {ATTEMPTS} times: another program changes it all the time; stop it"
        )

    def find(self, table: Table, keys: Keys) -> Elements:
        """See `PacketFilter.find`."""
        definitions = sets_named(table, keys)
        with self._channel() as channel:
            return {
                name: reading.find_elements(channel, table.name, definitions[name], wanted)
                for name, wanted in keys.items()
            }

    def replace(self, ruleset: Ruleset, generation: int = 0) -> int:
        """See `PacketFilter.replace`."""
        if ruleset.table.flags & _OWNED:
            raise InputError(
                f"table {ruleset.table.name!r} is owned: it would end with this process; clear flag {_OWNED}"
            )
        for _ in range(FREE_ATTEMPTS):
            transactions, made_for = self._difference(ruleset)
            if generation and made_for not in {0, generation}:
                raise StaleError
            made = 0
            try:
                for requests in transactions:
                    made = self._commit(requests, made or generation or made_for) or made
            except StaleError:
                if generation and not made:
                    raise
                generation = 0
            except FullError:
                raise
            except (NotFoundError, StateError):
                # Something of others' in the table stands in the way, which no reading shows.
                return self._commit(recreated(ruleset), made or generation)
            else:
                return made
        for _ in range(ATTEMPTS):
            with suppress(InterruptedDumpError, NotFoundError):
                return self._replaced_among_others(ruleset)
        raise OperationError(
            f"table {ruleset.table.name!r}: others change the tables all the time; try again"
        )

    def change(self, table: Table, adds: Elements, removes: Keys, generation: int = 0) -> int:
        """See `PacketFilter.change`."""
        return self._commit(elements_changed(table, adds, removes), generation)

    def remember(self, table: Table, timeouts_ms: Timeouts) -> int:
        """See `PacketFilter.remember`."""
        return self._commit(elements_remembered(table, timeouts_ms), 0)

    def delete(self, table: str, generation: int = 0) -> int:
        """See `PacketFilter.delete`."""
        with self._channel() as channel:
            channel.ask(codec.get_table(table))
        return self._commit([codec.same_table(table), codec.delete_table(table)], generation)

    def watch(self) -> AsyncIterator[GenerationChange]:
        """See `PacketFilter.watch`."""
        return events.changes(self.generation)

    def _difference(self, ruleset: Ruleset) -> tuple[list[list[Request]], int]:
        """Return what makes the kernel's table equal to this one, and the generation for which that is so.

        0 stands for any: what makes a table anew looks at nothing that is there.
        """
        try:
            # What packets have written stays, whatever it is.
            held = self.read(ruleset.table.name, written=False)
        except NotFoundError:
            return [recreated(ruleset)], 0
        except UnknownShapeError:
            return [recreated(ruleset)], 0
        return stages(held, ruleset), held.generation

    def _replaced_among_others(self, ruleset: Ruleset) -> int:
        """Replace a table while others change theirs all the time; return the last generation, or 0.

        Raises InterruptedDumpError where it was ours that somebody changed.
        """
        name, made = ruleset.table.name, 0
        with self._changing, Bystander(name) as bystander, self._channel() as channel:
            held = reading.read_among_others(channel, name, reading.Wanted(written=False), bystander)
            generation = held.generation
            for requests in stages(held, ruleset):
                for _ in range(COMMIT_ATTEMPTS):
                    with suppress(StaleError):
                        made = generation = channel.commit(requests, generation) or generation
                        break
                    generation = reading.read_generation(channel)
                    if not bystander.calm(channel):
                        raise InterruptedDumpError(f"nftables: table {name!r} changed while it was replaced")
                else:
                    raise InterruptedDumpError("nftables: there was no moment between others' changes")
        return made

    def _commit(self, requests: list[Request], generation: int) -> int:
        if not requests:
            return 0
        with self._changing, self._channel() as channel:
            return channel.commit(requests, generation)

    def _read(self, read: Callable[[Channel], _T]) -> _T:
        for attempt in range(ATTEMPTS):
            waiting = self._changing if attempt >= FREE_ATTEMPTS else nullcontext()
            with waiting, self._channel() as channel:
                try:
                    return read(channel)
                except InterruptedDumpError as error:
                    interrupted = error
        raise OperationError(
            f"{interrupted}, {ATTEMPTS} times: another program changes the tables all the time; stop it"
        )

    @contextmanager
    def _channel(self) -> Iterator[Channel]:
        with self._lock:
            channel = self._idle.pop() if self._idle else None
        channel = channel or self._opened()
        try:
            yield channel
        except (NotFoundError, StateError, InterruptedDumpError):
            self._keep(channel)
            raise
        except BaseException:
            # It may hold answers that nobody took.
            self._closed(channel)
            raise
        self._keep(channel)

    def _opened(self) -> Channel:
        channel = Channel()
        self._ports.add(channel.port)
        return channel

    def _closed(self, channel: Channel) -> None:
        self._ports.discard(channel.port)
        channel.close()

    def _keep(self, channel: Channel) -> None:
        with self._lock:
            self._idle.append(channel)
