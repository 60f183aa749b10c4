"""One machine's vault: the core, and beside it what the core knows by its digest or not at all.

Requests run through `Vault.run`, when they are made and when the log is read again, so that both give the
same state. `dump` writes a vault as records of kind `STATE`, and `load` reads one of them.
"""

from collections.abc import Iterable, Iterator
from typing import cast

from undercroft.channel import cbor
from undercroft.channel.requests import Operation
from undercroft.errors import DamagedError
from undercroft.vault import answers, commands
from undercroft.vault.core import Core, fresh
from undercroft.vault.names import hashed_request, name_of, number_of, plain_request

MAX_NAMES = 200_000
"""Of one vault, of all kinds together: some 40 MB of the host's memory."""

MAX_KEPT_BYTES = 64 * 1024 * 1024
"""Of one vault's sealed blobs and latest entries of ledgers."""

MAX_EXECUTIONS = 100_000

_PART_ITEMS = 300
_PART_BYTES = 24_000
_CORE, _WINDOW, _EXECUTIONS, _COUNTERS, _SPENT, _LEDGERS, _BLOBS, _REVOKED, _KEYS = range(1, 10)


class Vault:
    """What one machine has.

    Attributes:
        core: the decisions.
        executions: execution id -> its number in the core, in the order in which they were first heard of.
        blobs: name -> content, encrypted.
        entries: name -> the latest entry of a ledger.
        keys: name -> kind and encrypted secret of a signing key.
    """

    def __init__(self, machine: bytes) -> None:
        """A vault that holds nothing, of the machine with this UUID (16 bytes)."""
        self.machine = machine
        self.core: Core = fresh()
        self.executions: dict[bytes, int] = {}
        self.blobs: dict[int, bytes] = {}
        self.entries: dict[int, bytes] = {}
        self.keys: dict[int, tuple[int, bytes]] = {}
        self.kept_bytes = 0

    def take(self, execution: bytes, forked: bool) -> int:
        """Give the fence to an execution, as `Core.take` says; a refusal leaves no trace."""
        number = self.executions.get(execution, len(self.executions) + 1)
        if number > MAX_EXECUTIONS:
            return answers.LOST
        answer = self.core.take(number, forked)
        if answer == answers.DONE:
            self.executions[execution] = number
        return answer

    def end(self, execution: bytes) -> int:
        """Take the fence from an execution that ended, as `Core.end` says."""
        return self.core.end(self.executions.get(execution, -1))

    def names(self) -> int:
        """Return how many names the vault knows."""
        core = self.core
        kept = len(core.counters.values) + len(core.spent.names) + len(core.ledgers.heights)
        return kept + len(core.blobs.versions.values) + len(core.revoked.names) + len(self.keys)

    def run(self, execution: int, number: int, operation: int, arguments: commands.Arguments) -> int:
        """Run a request that changes something, or give its kept answer.

        Args:
            execution: its number.
            number: the request's.
            operation: of `commands.ARGUMENTS`.
            arguments: as `commands` has them.
        """
        core = self.core
        name = number_of(cast("bytes", arguments[0]))
        if operation == Operation.INCREMENT:
            count = cast("int", arguments[1])
            digest = plain_request(operation, name, count)
            return core.request(execution, number, digest, answers.INCREMENT, name, count, 0, 0)
        if operation == Operation.SPEND:
            digest = plain_request(operation, name, int(cast("bool", arguments[1])))
            return core.request(execution, number, digest, answers.SPEND, name, 0, 0, 0)
        if operation == Operation.REVOKE:
            digest = plain_request(operation, name)
            return core.request(execution, number, digest, answers.REVOKE, name, 0, 0, 0)
        new = core.runs(execution, number)
        expected, given = cast("int", arguments[1]), cast("bytes", arguments[2])
        if operation == Operation.SEAL:
            digest = hashed_request(operation, *map(_bytes, arguments[:3]))
            content = int.from_bytes(given, "big")
            answer = core.request(execution, number, digest, answers.STORE, name, expected, content, 0)
            if new and answer >= 0:
                self._keep(self.blobs, name, cast("bytes", arguments[3]))
            return answer
        entry = cast("bytes", arguments[3])
        digest = hashed_request(operation, *map(_bytes, arguments))
        head, entry_digest = int.from_bytes(given, "big"), commands.entry_digest(entry)
        answer = core.request(execution, number, digest, answers.APPEND, name, expected, head, entry_digest)
        if new and answer >= 0:
            self._keep(self.entries, name, entry)
        return answer

    def knows(self, operation: int, name: int) -> bool:
        """Whether a request of that operation would make no new name."""
        core = self.core
        if operation == Operation.SPEND:
            return core.is_spent(name)
        if operation == Operation.INCREMENT:
            return core.counter(name) > 0
        if operation == Operation.APPEND:
            return core.height(name) > 0
        if operation == Operation.SEAL:
            return core.version(name) > 0
        return core.is_revoked(name)

    def replay(self, record: list[cbor.Value]) -> None:
        """Run a batch of the log again. Raises DamagedError."""
        _, _, execution, number, *flat = record
        if not isinstance(execution, int) or not isinstance(number, int):
            raise DamagedError("the vaults' log holds a batch without its numbers")
        for operation, arguments in commands.requests(flat):
            if operation != commands.NOTHING:
                self.run(execution, number, operation, arguments)
            number += 1

    def dump(self) -> Iterator[bytes]:
        """Yield the vault as records."""
        core, window = self.core, self.core.window
        living, last = core.lives, window.last
        yield self._record(_CORE, [core.epoch, core.fence, living, core.changes, last])
        answered = zip(window.numbers, window.digests, window.answers, strict=True)
        yield self._record(_WINDOW, [part for n, d, a in answered for part in (n, _integer_bytes(d), a)])
        yield from self._parts(_EXECUTIONS, ((each,) for each in self.executions))
        yield from self._parts(_COUNTERS, ((name_of(n), v) for n, v in core.counters.values.items()))
        yield from self._parts(_SPENT, ((name_of(n),) for n in core.spent.names))
        yield from self._parts(_LEDGERS, map(self._ledger, core.ledgers.heights))
        yield from self._parts(_BLOBS, map(self._blob, core.blobs.versions.values))
        yield from self._parts(_REVOKED, ((name_of(n),) for n in core.revoked.names))
        yield from self._parts(_KEYS, ((name_of(n), *key) for n, key in self.keys.items()))

    def load(self, part: int, untyped: list[cbor.Value]) -> None:
        """Take one record of a dump; all of them, in their order, make the vault. Raises DamagedError."""
        core, flat = self.core, iter(cast("list[int]", untyped))
        names = cast("Iterator[bytes]", flat)
        if part == _CORE:
            core.epoch, core.fence, lives, core.changes, core.window.last = flat
            core.lives = bool(lives)
            _keep_conditions(
                0 <= core.epoch < answers.EPOCH_LIMIT and core.fence >= 0 and core.window.last >= 0
            )
        elif part == _WINDOW:
            rows = list(zip(flat, names, flat, strict=True))
            core.window.numbers = [row[0] for row in rows]
            core.window.digests = [int.from_bytes(row[1], "big") for row in rows]
            core.window.answers = [row[2] for row in rows]
            _keep_conditions(len(rows) == answers.WINDOW)
        elif part == _EXECUTIONS:
            for each in names:
                self.executions[each] = len(self.executions) + 1
        elif part == _COUNTERS:
            core.counters.values.update((number_of(n), v) for n, v in zip(names, flat, strict=True))
        elif part == _SPENT:
            core.spent.names.update(map(number_of, names))
        elif part == _LEDGERS:
            for name, height, head, entry in zip(names, flat, names, names, strict=True):
                core.ledgers.heights[number_of(name)] = height
                core.ledgers.heads[number_of(name)] = int.from_bytes(head, "big")
                self._keep(self.entries, number_of(name), entry)
        elif part == _BLOBS:
            for name, version, content, kept in zip(names, flat, names, names, strict=True):
                core.blobs.versions.values[number_of(name)] = version
                core.blobs.contents[number_of(name)] = int.from_bytes(content, "big")
                self._keep(self.blobs, number_of(name), kept)
        elif part == _REVOKED:
            core.revoked.names.update(map(number_of, names))
        elif part == _KEYS:
            self.keys.update(
                (number_of(n), (kind, kept)) for n, kind, kept in zip(names, flat, names, strict=True)
            )
        else:
            raise DamagedError(f"the vaults' log holds a part {part} of a later version: install that")

    def _ledger(self, name: int) -> tuple[cbor.Value, ...]:
        head = self.core.ledgers.heads[name].to_bytes(32, "big")
        return (name_of(name), self.core.ledgers.heights[name], head, self.entries[name])

    def _blob(self, name: int) -> tuple[cbor.Value, ...]:
        content = self.core.blobs.contents[name].to_bytes(32, "big")
        return (name_of(name), self.core.blobs.versions.values[name], content, self.blobs[name])

    def _keep(self, where: dict[int, bytes], name: int, content: bytes) -> None:
        self.kept_bytes += len(content) - len(where.get(name, b""))
        where[name] = content

    def _record(self, part: int, flat: list[cbor.Value]) -> bytes:
        return commands.write(commands.STATE, self.machine, part, *flat)

    def _parts(self, part: int, rows: Iterable[tuple[cbor.Value, ...]]) -> Iterator[bytes]:
        flat: list[cbor.Value] = []
        size = 0
        for row in rows:
            flat += row
            size += sum(len(each) if isinstance(each, bytes) else 9 for each in row)
            if len(flat) >= _PART_ITEMS or size >= _PART_BYTES:
                yield self._record(part, flat)
                flat, size = [], 0
        if flat:
            yield self._record(part, flat)


def _keep_conditions(kept: bool) -> None:
    """Raise DamagedError where what the core is put back from is not what its proof takes for granted."""
    if not kept:
        raise DamagedError("the vaults' log holds a state that no vault was ever in")


def _integer_bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def _bytes(argument: cbor.Value) -> bytes:
    return argument if isinstance(argument, bytes) else _integer_bytes(cast("int", argument))
