"""The vaults of a host, as the guest service tells of them. Names are the guests' own: untrusted text.

A name is bytes; as text it is UTF-8, and what is none of it stands as surrogates (PEP 383), which the
renderers escape.
"""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class ServiceState:
    """How the service stands.

    Attributes:
        state: `serving`, or `refused`: then no vault is served and no session begins.
        problem: why, with the cure.
        tpm: how the TPM is reached, `none` for none.
        unprotected: in words, what a missing TPM leaves unprotected; "" where there is one.
        epoch: 0 where it was refused.
        voids: epochs that did not end as they should, the latest hundred.
        anchors: heads that the TPM was given since the service began.
        writes: to the TPM, that are saved up.
    """

    state: str
    problem: str
    tpm: str
    unprotected: str
    epoch: int
    voids: tuple[int, ...]
    anchors: int
    writes: int

    @property
    def rests(self) -> str:
        """What an acknowledgement rests on, in words."""
        if self.unprotected:
            return f"fdatasync alone; {self.unprotected}"
        return "fdatasync; final spends on an anchor in the TPM too, all else within about a minute"


@dataclass(frozen=True, slots=True)
class Summary:
    """One machine's vault in figures.

    Attributes:
        machine: its UUID.
        name: libvirt's, "" where neither the record nor the service knows it.
        holder: the execution that took the fence last, 32 hexadecimal digits; "" for none.
        lives: that one has it still.
        executions: how many ever had it.
        names: of all kinds together.
        kept_bytes: of sealed blobs and of ledgers' latest entries.
        elsewhere: another host that keeps this vault by the record: what is here is not served; else "".
    """

    machine: str
    name: str
    holder: str
    lives: bool
    epoch: int
    executions: int
    names: int
    kept_bytes: int
    counters: int
    spent: int
    ledgers: int
    blobs: int
    revoked: int
    keys: int
    elsewhere: str = ""


@dataclass(frozen=True, slots=True)
class Counter:
    """A counter and the last value that was handed out."""

    name: str
    value: int


@dataclass(frozen=True, slots=True)
class Name:
    """A name that was spent, or revoked."""

    name: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """A ledger: how many entries it has, the head over them (hexadecimal), the size of the latest."""

    name: str
    height: int
    head: str
    entry_bytes: int


@dataclass(frozen=True, slots=True)
class Blob:
    """A sealed blob: its version and size; what it holds is not told."""

    name: str
    version: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key: its kind, its public part (DER, base64), and whether it was revoked."""

    name: str
    algorithm: str
    public: str
    revoked: bool


@dataclass(frozen=True, slots=True)
class Holder:
    """An execution that had the fence; numbers grow in the order in which they took it."""

    execution: str
    number: int


Entry: TypeAlias = Counter | Name | Ledger | Blob | Key | Holder
KINDS: tuple[str, ...] = ("counters", "spent", "ledgers", "blobs", "revoked", "keys", "executions")
"""What a vault has, in the order in which it is shown; the guest service's words."""


@dataclass(frozen=True, slots=True)
class Contents:
    """A vault with what it has of one kind or of all: at most so many entries of each as were asked for."""

    summary: Summary
    entries: dict[str, tuple[Entry, ...]]


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found when the whole log was read again, and held against the TPM.

    Attributes:
        fits: log and TPM are what they should be.
        problem: what is not, "" for nothing.
        groups: of the log, each with a head that fits; as far as it could be read.
        records: in them.
        bytes: of them.
        head: of the last one, hexadecimal; "" where none could be read.
        epoch: the last that the log has.
        machines: whose vaults it has.
        tpm: how the TPM was reached, `none` where there is none.
        counter: the TPM's; None where it could not be read.
        logged_counter: what the log says that the counter is; None where no TPM counts its epochs.
        index: what the TPM's index holds, hexadecimal; "" where it could not be read.
        logged_index: what the log says that it holds; "" as above.
    """

    fits: bool
    problem: str
    groups: int
    records: int
    bytes: int
    head: str
    epoch: int
    machines: int
    tpm: str
    counter: int | None
    logged_counter: int | None
    index: str
    logged_index: str

    @property
    def starts_lost(self) -> int:
        """How many starts the TPM has counted that the log does not know of."""
        if self.counter is None or self.logged_counter is None:
            return 0
        return max(0, self.counter - self.logged_counter)
