"""What the log of a host's vaults says: the vaults, and where the log stands beside the TPM.

Reading the groups of a log in their order makes a `History`; while the vaults run, the engine keeps it. It
can be written as records, which stand for all groups before (`dump`).
"""

from collections.abc import Iterable, Iterator
from typing import cast

from undercroft.channel import cbor
from undercroft.errors import DamagedError
from undercroft.ports.tpm import UNEXTENDED
from undercroft.ports.vaultlog import Group
from undercroft.vault import commands
from undercroft.vault.budget import SECONDS, START_WRITES, Budget
from undercroft.vault.names import number_of
from undercroft.vault.state import Vault

_HOST = 0
_VOID = 100
_VOIDS_IN_PART = 1_000


class History:
    """The state of all vaults of a host.

    Attributes:
        vaults: machine -> vault.
        epoch: the last that began; 0 before the first.
        base: what is added to the TPM's counter to make an epoch.
        counted: whether a TPM counts the epochs.
        held: what the TPM's index held when the log last said so.
        heads: heads of the groups since then, oldest first: the index may have been extended with one.
        intent: the TPM's counter before the increment that was about to come; None where none was.
        closed: the epoch ended as it should, or none began.
        anchored: the index was extended since the epoch began, as far as the log says.
        voids: epochs that did not, the first of several that follow each other -> the last: what was put back
            may lack all of those that the TPM has counted since.
        budget: of writes to the TPM.
    """

    def __init__(self) -> None:
        """Of an empty log."""
        self.vaults: dict[bytes, Vault] = {}
        self.epoch = 0
        self.base = 0
        self.counted = False
        self.held = UNEXTENDED
        self.heads: list[bytes] = []
        self.intent: int | None = None
        self.closed = True
        self.anchored = False
        self.voids: dict[int, int] = {}
        self.budget = Budget()

    def is_void(self, epoch: int) -> bool:
        """Whether what was acknowledged in an epoch may be missing in the log."""
        return any(first <= epoch <= last for first, last in self.voids.items())

    def vault(self, machine: bytes) -> Vault:
        """Return a machine's vault, a new one where it has none."""
        found = self.vaults.get(machine)
        if found is None:
            found = self.vaults[machine] = Vault(machine)
            found.core.begin(self.epoch)
        return found

    def replay(self, groups: Iterable[Group]) -> None:
        """Take the groups of a log. Raises DamagedError for records that cannot be read."""
        for group in groups:
            for record in group.records:
                try:
                    self.apply(commands.read(record))
                except (ValueError, TypeError, KeyError, OverflowError) as error:
                    raise DamagedError("the vaults' log holds a record of another shape") from error
            self.heads.append(group.head)

    def apply(self, untyped: list[cbor.Value]) -> None:
        """Take one record."""
        kind = untyped[0]
        record = cast("list[int]", untyped)
        machine = cast("bytes", untyped[1]) if len(untyped) > 1 else b""
        if kind == commands.BATCH:
            self.vault(machine).replay(untyped)
        elif kind == commands.TAKE:
            self.vault(machine).take(cast("bytes", untyped[2]), bool(record[3]))
        elif kind == commands.END:
            self.vault(machine).end(cast("bytes", untyped[2]))
        elif kind == commands.KEY:
            self.vault(machine).keys[number_of(cast("bytes", untyped[2]))] = (
                record[3],
                cast("bytes", untyped[4]),
            )
        elif kind == commands.INTENT:
            self.intent, self.base = record[1], record[2]
            self.budget.saved_s -= SECONDS * START_WRITES  # its anchor says it too, if it comes
        elif kind == commands.EPOCH:
            self.begin(record[1], bool(record[2]), cast("bytes", untyped[3]), record[4])
        elif kind == commands.ANCHOR:
            self.anchor(cast("bytes", untyped[2]))
            self.budget = Budget(record[3], record[4])
        elif kind == commands.CLOSED:
            self.closed = True
        elif kind == commands.ADOPTED:
            self.held = cast("bytes", untyped[3])
            self.heads.clear()
        elif kind == commands.STATE:
            self._load(machine, record[2], untyped[3:])

    def begin(self, epoch: int, counted: bool, held: bytes, void: int) -> None:
        """Begin an epoch in all vaults; `void` is the one before where that did not end, else 0.

        Between the two there may be epochs that this log knows nothing of: they are void too.
        """
        self.epoch, self.counted, self.held = epoch, counted, held
        self.intent, self.closed, self.anchored = None, False, False
        self.heads.clear()
        if void:
            self.voids[void] = epoch - 1
        for vault in self.vaults.values():
            vault.core.begin(epoch)

    def anchor(self, held: bytes) -> None:
        """Note what the TPM's index holds after it was extended."""
        self.held, self.anchored = held, True
        self.heads.clear()

    def dump(self) -> Iterator[bytes]:
        """Yield all of it as records, but for an intent and the heads: no TPM is written meanwhile."""
        state: list[cbor.Value] = [self.epoch, self.base, self.counted, self.held, self.closed, self.anchored]
        state += [self.budget.saved_s, self.budget.at_s]
        yield commands.write(commands.STATE, b"", _HOST, *state)
        voids = [each for pair in sorted(self.voids.items()) for each in pair]
        for at in range(0, len(voids), _VOIDS_IN_PART):
            yield commands.write(commands.STATE, b"", _VOID, *voids[at : at + _VOIDS_IN_PART])
        for vault in self.vaults.values():
            yield from vault.dump()

    def _load(self, machine: bytes, part: int, untyped: list[cbor.Value]) -> None:
        if machine:
            self.vault(machine).load(part, untyped)
            return
        values = cast("list[int]", untyped)
        if part == _VOID:
            self.voids.update(zip(values[::2], values[1::2], strict=True))
            return
        self.epoch, self.base, counted, held, closed, anchored, saved_s, at_s = values
        self.counted, self.closed, self.anchored = bool(counted), bool(closed), bool(anchored)
        self.held, self.intent, self.budget = cast("bytes", held), None, Budget(saved_s, at_s)
        self.heads.clear()
