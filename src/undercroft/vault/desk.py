"""Decides batches of requests, and collects what the log is to have of them.

What changes something goes through the core, and into a record of the batch. What is only read, or is refused
before the core is asked (limits, a full disk, an empty wear budget), leaves no trace: its number may be used
again as long as no later one was.
"""

from collections.abc import Callable, Sequence
from typing import cast

from undercroft.channel import cbor
from undercroft.channel.requests import MAX_BATCH, Operation, Outcome, Request
from undercroft.errors import StateError
from undercroft.vault import answers, commands, keeping
from undercroft.vault.budget import SECONDS, SHARE_WRITES, Budget
from undercroft.vault.chain import link
from undercroft.vault.history import History
from undercroft.vault.keeping import Keeping
from undercroft.vault.names import number_of, plain_request
from undercroft.vault.reading import Reader
from undercroft.vault.refusals import REASONS
from undercroft.vault.state import MAX_KEPT_BYTES, MAX_NAMES, Vault
from undercroft.vault.work import ANCHORED, OK, SYNCED, AnswerLine, Batch

_REQUEST_BYTES = 320
"""At most, of a request in a record without its entry or content."""

_RECORD_BYTES = 22_000
"""After which a batch goes on in another record: one more content fits, and a batch of increments."""

_INCREMENT, _SPEND = int(Operation.INCREMENT), int(Operation.SPEND)
_APPEND, _SEAL, _PUBLIC = int(Operation.APPEND), int(Operation.SEAL), int(Operation.PUBLIC)
_CHANGES = frozenset(commands.ARGUMENTS) - {commands.NOTHING}
_FREE = frozenset((int(Operation.RANDOM), int(Operation.STATUS)))
_REFUSED, _FENCED = int(Outcome.REFUSED), int(Outcome.FENCED)
_BUSY, _FAILED = int(Outcome.BUSY), int(Outcome.FAILED)
_OUTCOMES = {answers.FENCED: _FENCED, answers.UNKNOWN: int(Outcome.UNSUPPORTED)} | dict.fromkeys(
    (answers.MALFORMED, answers.CONFLICT, answers.FORGOTTEN), int(Outcome.MALFORMED)
)


class Desk:
    """Where batches are decided, one after the other.

    Attributes:
        records: of the group that is collected.
        batches: of it.
        anchor: whether one of its answers waits for an anchor.
        changed: whether any of its records changes what a machine has.
        unanchored: machine and name of each final spend that no anchor covers yet.
        room: how many bytes of records a group may have now.
        counted: whether there is a TPM.
    """

    def __init__(
        self, history: History, keep: Keeping, clock: Callable[[], int], random: Callable[[int], bytes]
    ) -> None:
        """Take the state, the encryption, Unix time in seconds, and the host's random generator."""
        self._history = history
        self._keep = keep
        self._clock = clock
        self._random = random
        self._reader = Reader(history, keep, random)
        self._shares: dict[bytes, Budget] = {}
        self._size = self._long = 0
        self.records: list[bytes] = []
        self.batches: list[Batch] = []
        self.anchor = False
        self.changed = False
        self.unanchored: set[tuple[bytes, int]] = set()
        self.room = 0
        self.counted = history.counted

    def begin_group(self) -> None:
        """Collect the next group."""
        self.records, self.batches, self.anchor, self.changed = [], [], False, False
        self._size = 0

    def order(self, record: bytes) -> None:
        """Take a record that no guest asked for."""
        self.records.append(record)
        self._size += len(record) + 4

    def batch(self, machine: bytes, execution: bytes, first: int, requests: Sequence[Request]) -> Batch:
        """Decide consecutive requests of an execution; the answers wait for the group."""
        vault = self._history.vault(machine)
        core = vault.core
        number = vault.executions.get(execution, 0)
        made = Batch([])
        self.batches.append(made)
        if not core.living() or core.owner() != number:
            fenced: AnswerLine = (_FENCED, 0, REASONS[answers.FENCED])
            made.answers = [
                self._reader.read(vault, 0, each) if each.operation in _FREE else fenced for each in requests
            ]
            return made
        self._decide(vault, number, first, requests, made)
        return made

    def away(self, host: str, requests: Sequence[Request]) -> Batch:
        """Answer requests of a guest whose vault another host keeps: nothing here is read or changed."""
        text = f"its vault is kept by {host}: bring the machine back there"
        fenced: AnswerLine = (_FENCED, 0, text)
        made = Batch([self._reader.away(each, text) or fenced for each in requests])
        self.batches.append(made)
        return made

    def make_key(self, vault: Vault, name: bytes, kind: int) -> bool:
        """Make a signing key; whether there was none of that name."""
        number = number_of(name)
        if number in vault.keys:
            return False
        if self._full(1) is not None or vault.names() >= MAX_NAMES:
            raise StateError("no signing key can be made: the host's disk or the vault is full")
        kept = self._keep.encrypt(keeping.new_secret(kind, self._random), vault.machine, name)
        vault.keys[number] = (kind, kept)
        self.order(commands.write(commands.KEY, vault.machine, name, kind, kept))
        self.changed = True
        return True

    def _decide(
        self, vault: Vault, execution: int, first: int, requests: Sequence[Request], made: Batch
    ) -> None:
        """Decide the requests of who holds the fence."""
        core, out, number = vault.core, made.answers, first
        full = self._full(len(requests))
        crowded = vault.names() + len(requests) > MAX_NAMES
        line: list[cbor.Value] = [commands.BATCH, vault.machine, execution, first]
        used = len(line)
        for request in requests:
            operation = int(request.operation)
            logged: commands.Arguments | None = None
            if full is not None and operation in _CHANGES:
                out.append(full)
            elif (
                operation == _INCREMENT and not crowded
            ):  # what is asked most, without a call more than it needs
                name, count = cast("tuple[bytes, int]", request.arguments)
                wanted = int.from_bytes(b"\x01" + name, "big")
                digest = plain_request(operation, wanted, count)
                if number > core.newest():
                    logged = request.arguments
                answer = core.request(execution, number, digest, answers.INCREMENT, wanted, count, 0, 0)
                out.append((OK, SYNCED, answer) if answer >= 0 else _refused(answer))
            elif operation in _CHANGES:
                logged = self._change(vault, execution, number, request, made, crowded=crowded)
                self._long += _size(logged)
            else:
                if operation == _PUBLIC and full is None and not crowded:
                    self.make_key(vault, cast("bytes", request.arguments[0]), keeping.ED25519)
                out.append(self._reader.read(vault, execution, request))
            number += 1
            if logged is None:
                line.append(commands.NOTHING)
                continue
            line += (operation, *logged)
            used = len(line)
            if self._long > _RECORD_BYTES:
                self._record(line, used)
                line = [commands.BATCH, vault.machine, execution, number]
                used = len(line)
        self._record(line, used)

    def _record(self, line: list[cbor.Value], used: int) -> None:
        """Take a batch's record, up to its last request that changed something; none where none did."""
        self._long = 0
        if used > 4:
            del line[used:]
            self.order(commands.write(*line))
            self.changed = True

    def _change(
        self, vault: Vault, execution: int, number: int, request: Request, made: Batch, *, crowded: bool
    ) -> commands.Arguments | None:
        """Run a request that changes something; what the log is to have of it, None for nothing."""
        operation, arguments = int(request.operation), request.arguments
        name = number_of(cast("bytes", arguments[0]))
        new = number > vault.core.newest()
        if new and crowded and not vault.knows(operation, name):
            made.answers.append((_REFUSED, 0, f"the vault has {MAX_NAMES} names, the most that one may have"))
            return None
        if operation == _SPEND and arguments[1] and self.counted:
            return self._spend(vault, execution, number, arguments, made)
        logged: commands.Arguments = arguments
        if operation == _SEAL:
            content = cast("bytes", arguments[2])
            owner = vault.machine, cast("bytes", arguments[0])
            kept = self._keep.encrypt(content, *owner) if new else b""
            logged = (arguments[0], arguments[1], self._keep.digest(content, *owner), kept)
        if new and _long(logged) and (refused := self._no_room(vault, _long(logged))):
            made.answers.append(refused)
            return None
        answer = vault.run(execution, number, operation, logged)
        made.answers.append(self._answer(vault, operation, name, logged, answer))
        return logged if new else None

    def _answer(
        self, vault: Vault, operation: int, name: int, arguments: commands.Arguments, answer: int
    ) -> AnswerLine:
        """Return the answer to a change as it goes on the line."""
        if answer < 0:
            if operation == _SEAL and answer == answers.MOVED:
                lost = self._reader.lost(vault, name, cast("int", arguments[1]))
                return lost or _refused(answer)
            return _refused(answer)
        if operation in (_SEAL, _INCREMENT):
            return (OK, SYNCED, answer)
        if operation == _APPEND:
            before, entry = cast("bytes", arguments[2]), cast("bytes", arguments[3])
            head = link(int.from_bytes(before, "big"), commands.entry_digest(entry))
            return (OK, SYNCED, answer, head.to_bytes(32, "big"))
        return (OK, SYNCED)

    def _spend(
        self, vault: Vault, execution: int, number: int, arguments: commands.Arguments, made: Batch
    ) -> commands.Arguments | None:
        """Spend a value for good: granted only with an anchor over it."""
        name = number_of(cast("bytes", arguments[0]))
        key, new = (vault.machine, name), number > vault.core.newest()
        waits = key in self.unanchored or (new and not vault.core.is_spent(name))
        if waits and not self._may_anchor(vault.machine):
            now, share = self._clock(), self._shares[vault.machine]
            seconds = max(self._history.budget.wait_s(now), share.wait_s(now)) or SECONDS
            text = f"the TPM is not written more often, to spare it: a final spend is granted in {seconds} s"
            made.answers.append((_BUSY, 0, text))
            return None
        answer = vault.run(execution, number, _SPEND, arguments)
        if answer < 0:
            made.answers.append(_refused(answer))
        elif waits:
            self.unanchored.add(key)
            self.anchor = True
            made.finals.append(len(made.answers))
            made.answers.append((OK, SYNCED))
        else:
            made.answers.append((OK, ANCHORED))
        return arguments if new else None

    def _may_anchor(self, machine: bytes) -> bool:
        """Take a write to the TPM from the machine's share and the host's budget, unless one comes anyway."""
        now = self._clock()
        most = SECONDS * SHARE_WRITES
        share = self._shares.setdefault(machine, Budget(most, now, most))
        if self.anchor:
            return True
        budget = self._history.budget
        if budget.wait_s(now) or share.wait_s(now):
            return False
        used = share.most_s - share.saved_s  # the more a machine has used, the more has to be left to all
        if used * budget.most_s > 2 * budget.saved_s * share.most_s:
            return False
        return share.take(now) and budget.take(now)

    def _full(self, count: int) -> AnswerLine | None:
        """Return what requests are answered that the group or the disk has no room for."""
        if self._size + count * _REQUEST_BYTES <= self.room:
            return None
        if self.records:
            return (_BUSY, 0, "too much waits for the host's disk: ask again")
        return (
            _FAILED,
            0,
            "the host's disk is full: nothing can be changed until its administrator makes room",
        )

    def _no_room(self, vault: Vault, size: int) -> AnswerLine | None:
        """Return what a content is answered that has no room in the vault, the group or on the disk."""
        if vault.kept_bytes + size > MAX_KEPT_BYTES:
            return (_REFUSED, 0, f"the vault keeps {MAX_KEPT_BYTES} bytes of contents, the most that it may")
        return self._full(MAX_BATCH + (self._long + size) // _REQUEST_BYTES + 1)


def _refused(answer: int) -> AnswerLine:
    return (_OUTCOMES.get(answer, _REFUSED), 0, REASONS[answer])


def _size(logged: commands.Arguments | None) -> int:
    """Return what a request has in a record at most."""
    return sum(len(each) + 5 if isinstance(each, bytes) else 9 for each in logged or ()) + 1


def _long(logged: commands.Arguments | None) -> int:
    """Return the size of what may be long in a request: an entry or a content."""
    return len(cast("bytes", logged[3])) if logged is not None and len(logged) == 4 else 0
