"""A packet filter in memory that implements `ports.packetfilter.PacketFilter`, for tests above it.

    packet_filter = MemoryFilter()
    packet_filter.replace(ruleset)
    packet_filter.interfere(other)        # what another program makes of the table
    packet_filter.fail(OperationError("the kernel refuses")); packet_filter.mend()

It filters nothing. `tests/integration/test_packet_filter.py` holds it to what the kernel does.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from undercroft.errors import InputError, NotFoundError, OperationError, StateError
from undercroft.firewall.kernel import FIELD_BYTES, Ruleset, SetDefinition, Table, Verdict
from undercroft.ports.packetfilter import (
    Elements,
    FilterFeatures,
    GenerationChange,
    Keys,
    TableName,
    Timeouts,
)

Data = bytes | Verdict | None


class MemoryFilter:
    """Tables in memory. Every method may be called from any thread.

    Attributes:
        can: what `features` tells.
        foreign: tables of others.
        calls: the methods that changed something, in order.
        timeouts_ms: of what was remembered last; nothing ever ends here.
        reads: how often a table was read.
        stages: replacing makes two generations, as the kernel's does for new chains.
        room: set name -> the most elements, where it is not the set's size.
        blind: it never knows who has changed a table.
        lose_answers: so many changes are made and answered with an error.
    """

    def __init__(self) -> None:
        self.can = FilterFeatures(
            conntrack=False,
            dynamic_sets=True,
            rate_limits=True,
            logs=True,
            verdict_maps=True,
            concatenation_bytes=64,
            inet_tables=True,
            missing=("conntrack",),
        )
        self.foreign: list[TableName] = []
        self.calls: list[str] = []
        self.timeouts_ms: dict[str, dict[bytes, int]] = {}
        self.reads = 0
        self.stages = False
        self.room: dict[str, int] = {}
        self.lose_answers = 0
        self.blind = False
        self._tables: dict[str, Table] = {}
        self._elements: dict[str, dict[str, dict[bytes, Data]]] = {}
        self._generation = 1
        self._touched: dict[str, int] = {}
        self._failure: Exception | None = None
        self._lock = threading.RLock()
        self._listeners: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[GenerationChange]]] = []

    # What `PacketFilter` asks for.

    def generation(self) -> int:
        with self._asked():
            return self._generation

    def untouched(self, table: str, since: int) -> int:
        with self._asked():
            known = since and not self.blind and self._touched.get(table, 0) <= since
            return self._generation if known else 0

    def tables(self) -> tuple[TableName, ...]:
        with self._asked():
            own = [TableName("bridge", name) for name in self._tables]
            return tuple(sorted((*own, *self.foreign), key=lambda table: (table.family, table.name)))

    def features(self) -> FilterFeatures:
        with self._asked():
            return self.can

    def read(self, table: str, sets: Collection[str] | None = None, *, written: bool = True) -> Ruleset:
        with self._asked():
            held = self._held(table)
            self.reads += 1
            names = {one.name for one in held.sets if written or not one.dynamic}
            elements = {
                name: dict(found)
                for name, found in self._elements[table].items()
                if name in names and (sets is None or name in sets)
            }
            return Ruleset(held, elements, self._generation)

    def find(self, table: Table, keys: Keys) -> Elements:
        self._named(table, keys)
        with self._asked():
            self._held(table.name)
            return {
                name: {
                    key: self._set(table.name, name)[key]
                    for key in wanted
                    if key in self._set(table.name, name)
                }
                for name, wanted in keys.items()
            }

    def replace(self, ruleset: Ruleset, generation: int = 0) -> int:
        with self._asked():
            self._expect(generation)
            table = _in_order(ruleset.table)
            elements = {
                definition.name: _checked(definition, ruleset.elements.get(definition.name, {}))
                for definition in table.sets
            }
            old = self._tables.get(table.name)
            for definition in table.sets:
                if old and definition.dynamic and definition in old.sets:
                    elements[definition.name] |= self._elements[table.name][definition.name]
            if (old, self._elements.get(table.name)) == (table, elements):
                return 0
            for definition in table.sets:
                self._check_room(definition, elements[definition.name])
            self.calls.append("replace")
            if self.stages and old:
                self._next()
            return self._store(table, elements)

    def change(self, table: Table, adds: Elements, removes: Keys, generation: int = 0) -> int:
        definitions = self._named(table, (*removes, *adds))
        with self._asked():
            wanted = {name: _checked(definitions[name], found) for name, found in adds.items()}
            self._expect(generation)
            held = self._held(table.name)
            elements = {name: dict(found) for name, found in self._elements[table.name].items()}
            for name, keys in removes.items():
                for key in keys:
                    if key not in self._set(table.name, name):
                        raise NotFoundError(f"set {name!r}: no key {key.hex()}")
                    del elements[name][key]
            for name, found in wanted.items():
                self._set(table.name, name)
                for key, data in found.items():
                    if elements[name].setdefault(key, data) != data:
                        raise StateError(f"set {name!r}: key {key.hex()} has other data")
                self._check_room(definitions[name], elements[name])
            if elements == self._elements[table.name]:
                return 0
            self.calls.append("change")
            made = self._store(held, elements)
            if self.lose_answers:
                self.lose_answers -= 1
                raise OperationError("the answer was lost")
            return made

    def remember(self, table: Table, timeouts_ms: Timeouts) -> int:
        definitions = self._named(table, timeouts_ms)
        for name, found in timeouts_ms.items():
            if not definitions[name].timeout_ms or any(timeout_ms < 1 for timeout_ms in found.values()):
                raise InputError(f"set {name!r}: a timeout that it cannot have")
        self.timeouts_ms = {name: dict(found) for name, found in timeouts_ms.items()}
        return self.change(table, {name: dict.fromkeys(found) for name, found in timeouts_ms.items()}, {})

    def delete(self, table: str, generation: int = 0) -> int:
        with self._asked():
            self._held(table)
            self._expect(generation)
            self.calls.append("delete")
            del self._tables[table], self._elements[table]
            return self._next()

    async def watch(self) -> AsyncIterator[GenerationChange]:
        queue: asyncio.Queue[GenerationChange] = asyncio.Queue()
        listener = (asyncio.get_running_loop(), queue)
        with self._asked():
            self._listeners.append(listener)
            present = self._generation
        try:
            yield GenerationChange(present)
            while True:
                yield await queue.get()
        finally:
            self._listeners.remove(listener)

    # What a test does to it.

    def interfere(self, ruleset: Ruleset) -> None:
        """Be another program that makes the table so."""
        with self._lock:
            table = _in_order(ruleset.table)
            elements = {
                definition.name: dict(ruleset.elements.get(definition.name, {})) for definition in table.sets
            }
            self._touched[table.name] = self._store(table, elements)

    def vanish(self, table: str) -> int:
        """Be another program that deletes the table."""
        with self._lock:
            del self._tables[table], self._elements[table]
            self._touched[table] = self._next()
            return self._generation

    def forge(self, name: str, adds: Mapping[bytes, Data], removes: Collection[bytes] = ()) -> None:
        """Be another program that changes elements of a set of ours."""
        with self._lock:
            elements = {other: dict(found) for other, found in self._elements["undercroft"].items()}
            for key in removes:
                del elements[name][key]
            elements[name].update(adds)
            self._touched["undercroft"] = self._store(self._tables["undercroft"], elements)

    def sneak(self, name: str, adds: Mapping[bytes, Data]) -> None:
        """Have elements that nobody has told of."""
        with self._lock:
            self._elements["undercroft"][name].update(adds)

    def fail(self, error: Exception) -> None:
        """Let every call raise this, until `mend`."""
        self._failure = error

    def mend(self) -> None:
        """Let calls be answered again."""
        self._failure = None

    @contextmanager
    def _asked(self) -> Iterator[None]:
        with self._lock:
            if self._failure is not None:
                raise self._failure
            yield

    def _expect(self, generation: int) -> None:
        if generation not in {0, self._generation}:
            raise StateError("somebody changed the tables meanwhile; read them again")

    @staticmethod
    def _named(table: Table, names: Iterable[str]) -> dict[str, SetDefinition]:
        definitions = {definition.name: definition for definition in table.sets}
        for name in names:
            if name not in definitions:
                raise InputError(f"table {table.name!r} has no set {name!r}")
        return definitions

    def _check_room(self, definition: SetDefinition, elements: Collection[bytes]) -> None:
        if len(elements) > self.room.get(definition.name, definition.size) > 0:
            raise StateError(f"set {definition.name!r} is full")

    def _held(self, table: str) -> Table:
        if table not in self._tables:
            raise NotFoundError(f"no table {table!r}")
        return self._tables[table]

    def _set(self, table: str, name: str) -> dict[bytes, Data]:
        self._held(table)
        if name not in self._elements[table]:
            raise NotFoundError(f"table {table!r} has no set {name!r}")
        return self._elements[table][name]

    def _store(self, table: Table, elements: dict[str, dict[bytes, Data]]) -> int:
        self._tables[table.name] = table
        self._elements[table.name] = elements
        return self._next()

    def _next(self) -> int:
        self._generation += 1
        change = GenerationChange(self._generation, 1, "memory")
        for loop, queue in self._listeners:
            loop.call_soon_threadsafe(queue.put_nowait, change)
        return self._generation


def _in_order(table: Table) -> Table:
    return replace(
        table,
        sets=tuple(sorted(table.sets, key=lambda definition: definition.name)),
        chains=tuple(sorted(table.chains, key=lambda chain: chain.name)),
    )


def _checked(definition: SetDefinition, elements: object) -> dict[bytes, Data]:
    lengths = [FIELD_BYTES[name] for name in definition.key]
    expected = lengths[0] if len(lengths) == 1 else sum(length + -length % 4 for length in lengths)
    assert hasattr(elements, "items")
    for key, data in elements.items():
        if len(key) != expected:
            raise InputError(f"set {definition.name!r}: a key of {len(key)} bytes; {expected} are expected")
        kinds = {"": type(None), "mark": bytes, "verdict": Verdict}
        if not isinstance(data, kinds[definition.data]):
            raise InputError(f"set {definition.name!r}: {data!r} is no data of it")
    return dict(elements.items())
