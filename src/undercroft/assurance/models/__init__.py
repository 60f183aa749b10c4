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

_LIES = {"ASKS": 4, "SNAPSHOTS": 0, "LIARS": 1}
_THREE = {"ASKS": 2, "EXECUTIONS": 3}

EXECUTIONS: Final = Model(
    "executions",
    ("NoRepeat", "SingleSpend", "RevokedStays", "Tree", "AtMostOnce"),
    ({"ASKS": 2, "EXECUTIONS": 2}, _LIES),
    (_THREE, {"ASKS": 2, "EXECUTIONS": 3, "BREAKS": 2}),
    {
        "FENCE_NOT_CHECKED": Mutant("NoRepeat"),
        "WINDOW_KEPT_FOR_THE_NEXT": Mutant("NoRepeat"),
        "RESTORE_GOES_ON": Mutant("NoRepeat", _THREE),
        "LOAD_UNNOTICED": Mutant("NoRepeat"),
        "RECORD_FORGOTTEN": Mutant("AtMostOnce"),
        "OLD_NUMBER_RUNS": Mutant("AtMostOnce", _LIES),
        "ANOTHER_REQUEST_ANSWERED": Mutant("SingleSpend", _LIES),
        "WELCOME_FROM_ONE": Mutant("NoRepeat"),
        "FENCE_COMES_BACK": Mutant("AtMostOnce"),
        "SPENDS_OF_THE_EXECUTION": Mutant("SingleSpend"),
        "GUARD_IN_THE_GUEST": Mutant("RevokedStays"),
        "PARENT_IS_THE_LAST": Mutant("Tree", _THREE),
        "FENCED_ANSWERED_FROM_RECORD": Mutant("NoRepeat"),
    },
    {
        "FORK_WINS": _THREE,
        "FORK_IS_FENCED": {},
        "REPEATED_ANSWER": {},
        "REWIND_PROVEN": {},
        "SPENT_REFUSED": {},
        "VALUE_AFTER_A_REVERT": {},
        "FORGOTTEN": _LIES,
        "CONFLICT": _LIES,
        "REVOKED_IN_A_FORK": {},
        "LOAD_REPEATS_AN_ANSWER": {},
        "LOAD_HIDDEN_BY_A_LOSS": {},
    },
)

GATE: Final = Model(
    "gate",
    ("NoOutputBeforeReseed", "FailClosed"),
    ({"RESUMES": 2, "DEATHS": 1, "SESSIONS": 4},),
    ({"RESUMES": 3, "DEATHS": 1, "SESSIONS": 5}, {"RESUMES": 2, "DEATHS": 2, "SESSIONS": 5}),
    {
        "NO_QUIESCE": Mutant("NoStaleDraw"),
        "OPENED_BY_THE_SEED": Mutant("NoOutputBeforeReseed"),
        "SEED_FOR_ANY": Mutant("NoOutputBeforeReseed"),
        "STALE_CONFIRMED": Mutant("NoOutputBeforeReseed"),
        "CONFIRMED_BEFORE_CREDITED": Mutant("NoOutputBeforeReseed"),
        "THAWED_BEFORE_CREDITED": Mutant("NoStaleDraw"),
        "THAWED_BY_RESUME": Mutant("NoStaleDraw"),
        "SEED_REPEATED": Mutant("NoOutputBeforeReseed"),
        "CONFIRMED_BY_MACHINE": Mutant("NoOutputBeforeReseed"),
        "PORT_STAYS_OPEN": Mutant("FailClosed"),
        "LATE_EVENT_OPENS": Mutant("NoOutputBeforeReseed"),
        "AGENT_OPENS_WHAT_RUNS": Mutant("FailClosed"),
        "SERVICE_GONE_OPENS": Mutant("NoOutputBeforeReseed"),
    },
    {
        "OPENED_AFTER_A_RESUME": {},
        "QUIESCED_SNAPSHOT_RESUMED": {},
        "EXPOSED_SNAPSHOT_RESUMED": {},
        "WENT_ON_AFTER_QUIESCE": {},
        "STALE_FRAME_DROPPED": {},
        "LATE_EVENT_DROPPED": {},
        "AGENT_OPENS_FROM_ITS_RECORD": {},
        "SERVICE_DIED_BEFORE_CONFIRMED": {},
        "STALE_DRAW_BEHIND_A_CLOSED_PORT": {},
    },
)

CHANNEL: Final = Model(
    "channel",
    (),
    ({"FRAMES": 1, "SESSIONS": 3, "FAULTS": 2},),
    ({"FRAMES": 2, "SESSIONS": 3, "FAULTS": 2}, {"FRAMES": 2, "SESSIONS": 3, "FAULTS": 2, "LOADS": 2}),
    {
        "NUMBER_NOT_COMPARED": Mutant("LoadIsProven", {"FRAMES": 2}),
        "STANDING_NOT_COMPARED": Mutant("LoadIsProven"),
        "BOOTS_FORGOTTEN": Mutant("LoadIsProven"),
        "SEEN_FORGOTTEN": Mutant("LoadIsProven"),
        "STANDING_IN_THE_PROCESS": Mutant("NoFalseProof"),
        "COUNTED_AFTER_SENDING": Mutant("NoFalseProof"),
        "STANDING_KEPT_OVER_A_REBOOT": Mutant("NoFalseProof"),
        "WELCOME_LESSENS": Mutant("NoFalseProof"),
    },
    {
        "PROVEN_BY_NUMBER": {},
        "PROVEN_BY_STANDING": {},
        "PROVEN_BY_BOOT": {},
        "PROVEN_BY_SECOND_ANSWER": {},
        "LOAD_AFTER_THE_LAST_FRAME": {},
        "SESSION_AFTER_A_REBOOT": {},
        "LOAD_HIDDEN_BY_A_LOSS": {},
    },
)

MODELS: Final = (VAULT, EXECUTIONS, GATE, CHANNEL)
