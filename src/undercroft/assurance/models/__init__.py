"""The models of what lies beneath the guest, in Promela for Spin: their invariants, and what must be found.

`MODELS` names for each model the bounds within which all its runs are looked at, the mistakes (mutants) that
have to break an invariant, and the controls: claims that something never happens, which have to be found
false, or the model shows nothing. docs/MODELS.md says the same in words. The tests run them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

FOLDER: Final = Path(__file__).parent

INVARIANTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "NoRepeat": "no value of a counter is granted twice over all executions of a machine",
        "MonotonePerName": "the values of a name only rise",
        "FreshLatest": "what is read is at least what was acknowledged before it was asked for",
        "SingleSpend": "a one-time value is granted once, whichever executions ask",
        "RevokedStays": "what was revoked never holds again",
        "Tree": "executions form a tree: each has one parent that began before it, and none rewinds",
        "NoOutputBeforeReseed": "no port is open for an execution that has not confirmed its own seed",
        "NoSilentRollback": "a disk that is put back: refused, or values differ and anchors are there",
        "FailClosed": "what fails, is refused or is unknown grants nothing and opens nothing",
        "AtMostOnce": "a request asked again under its number runs at most once, and has one answer",
    }
)
"""What ADR 7 promises; models have more that are named where they stand."""

Bounds = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mistake: which invariant it breaks, and the bounds within which that is found."""

    breaks: str
    bounds: Bounds = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """A model.

    Attributes:
        name: of its file, without `.pml`.
        invariants: that it has.
        runs: bounds of the runs that find nothing, each looked at whole; the first is that of the mutants.
        soak: larger ones, each below 60 s and 4 GB.
        mutants: by the name in the model; numbers are in the model.
        controls: by the name in the model, with the bounds within which they are reached.
    """

    name: str
    invariants: tuple[str, ...]
    runs: tuple[Bounds, ...]
    soak: tuple[Bounds, ...]
    mutants: Mapping[str, Mutant]
    controls: Mapping[str, Bounds]

    @property
    def path(self) -> Path:
        """Return the model's file."""
        return FOLDER / f"{self.name}.pml"


_VAULT_STARTS = {"MAX_GROUPS": 10, "IDLE": 1, "ADOPTIONS": 2, "PUT_BACK": 2}
_VAULT_9 = {"MAX_GROUPS": 9}

VAULT: Final = Model(
    "vault",
    (
        "NoRepeat",
        "MonotonePerName",
        "FreshLatest",
        "SingleSpend",
        "RevokedStays",
        "NoSilentRollback",
        "FailClosed",
    ),
    ({"MAX_GROUPS": 8},),
    ({"MAX_GROUPS": 10}, _VAULT_STARTS),
    {
        "COUNT_INSTEAD_OF_EXTEND": Mutant("NoSilentRollback"),
        "INDEX_IGNORED": Mutant("NoSilentRollback"),
        "EPOCH_GOES_ON": Mutant("NoRepeat"),
        "ANSWER_BEFORE_SYNC": Mutant("NoSilentRollback"),
        "FINAL_WITHOUT_ANCHOR": Mutant("NoSilentRollback"),
        "EXTEND_BEFORE_SYNC": Mutant("CrashIsNoRollback"),
        "NO_INTENT": Mutant("CrashIsNoRollback"),
        "EPOCH_BEFORE_INCREMENT": Mutant("CrashIsNoRollback"),
        "READ_BEFORE_SYNC": Mutant("NoSilentRollback"),
        "ADOPTED_ABOVE_THE_IMAGE": Mutant("NoRepeat", _VAULT_STARTS),
        "SERVES_WITHOUT_ITS_TPM": Mutant("FailClosed"),
        "NOTE_BEFORE_EXTEND": Mutant("CrashIsNoRollback"),
        "HEADS_FORGOTTEN": Mutant("CrashIsNoRollback"),
        "END_WITHOUT_ANCHOR": Mutant("NoSilentRollback", _VAULT_9),
        "SNAPSHOT_WITHOUT_SPENDS": Mutant("NoSilentRollback", _VAULT_9),
        "SNAPSHOT_WITHOUT_INDEX": Mutant("CrashIsNoRollback"),
        "EMPTY_LOG_IS_NEW": Mutant("NoSilentRollback"),
        "SPEND_NOT_LOOKED_UP": Mutant("SingleSpend"),
        "REVOCATIONS_IN_MEMORY": Mutant("RevokedStays"),
        "STALE_READ": Mutant("FreshLatest"),
        "VALUES_FROM_ZERO": Mutant("NoRepeat", _VAULT_9),
        "VALUES_FALL": Mutant("MonotonePerName"),
    },
    {
        "VALUE_IN_SECOND_EPOCH": {},
        "FINAL_AFTER_A_CRASH": {},
        "EARLIER_IMAGE_SERVED": {},
        "REFUSED": {},
        "ADOPTED_TWICE": _VAULT_STARTS,
        "EXTENDED_AND_NOT_NOTED": {},
        "CLEAN_END_THEN_SERVED": {},
        "SNAPSHOT_THEN_SERVED": {},
        "FRESH_READ": {},
        "RETRIED_FINAL": _VAULT_9,
        "DECIDED_WHILE_A_GROUP_RUNS": {},
        "GUARD_REFUSED": {},
    },
)

MODELS: Final = (VAULT,)
