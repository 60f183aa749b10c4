"""What a decision about one state of one machine rests on, and who provides it.

`Examiner` is passed in: the agent's answers from its cache, the command line's reads the disks. `keep_floor`
takes over what a machine has fixed as soon as a state of it was read.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from undercroft.advisories.knowledge import Knowledge
from undercroft.errors import UndercroftError
from undercroft.lineage.floor import raised, returning, unproven
from undercroft.model.comeback import Returning
from undercroft.model.credentials import Credentials
from undercroft.model.finding import Assessment
from undercroft.model.fleet import Floor, MachineRecord
from undercroft.model.inventory import Inventory
from undercroft.model.verdict import Action, Judgement, Outcome
from undercroft.ports.records import Records
from undercroft.steady.rules import FLOOR
from undercroft.usecases.fleet.verdicts.floors import put_raised

INTENT_VALID = timedelta(minutes=5)
"""How long an order waits for the start that it is about."""

RELEASE_VALID = timedelta(hours=24)
"""How long a release that overrides the policy counts: no judgement closes the network again until then."""


@dataclass(frozen=True, slots=True)
class Order:
    """Who orders something, and with which reason.

    Attributes:
        by: the user.
        at: when, with a time zone.
        reason: in the user's words; needed for `anyway`.
        anyway: also where the answer is a refusal.
    """

    by: str
    at: datetime
    reason: str = ""
    anyway: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What one state of a machine holds, as its bytes are now.

    Attributes:
        inventory: None when nothing could be read.
        credentials: None when they could not be read.
        assessment: None when there was no inventory.
        problems: why it is not whole, the inventory's and the assessment's included.
        looked_at: when the bytes were read or proven to be the same.
    """

    inventory: Inventory | None
    credentials: Credentials | None
    assessment: Assessment | None
    problems: tuple[str, ...]
    looked_at: datetime


@dataclass(frozen=True, slots=True)
class Said:
    """What the policy says of one state.

    Attributes:
        judgement: not on record.
        reason: for its action, "" for ALLOW.
        against: the rules whose answer alone meets more than ALLOW.
    """

    judgement: Judgement
    reason: str
    against: frozenset[str]


class Examiner(Protocol):
    """Looks at states and judges them. Every method may take seconds: no transaction may be open."""

    def look(self, machine: MachineRecord, state: str) -> Look:
        """Return what "current" or a snapshot of that name holds, never from an answer that may be old.

        Raises:
            NotFoundError: the images hold no such state.
            InputError, OperationError: it cannot be read.
        """
        ...

    def knowledge(self, inventory: Inventory) -> Knowledge | None:
        """Return the advisories that bear on an inventory, None where there are none."""
        ...

    def judge(
        self,
        machine: MachineRecord,
        state: str,
        look: Look | None,
        floor: Floor,
    ) -> Said:
        """Return what the policy says of a state; nothing is put on record.

        Args:
            machine: the machine.
            state: "current" or a snapshot's name.
            look: what was seen of it, None where nothing could be.
            floor: the machine's.
        """
        ...

    def unknown_action(self, machine: MachineRecord) -> Action:
        """Return what is done where a state cannot be judged; REFUSE unless the policy names another."""
        ...

    def wants_fresh(self, machine: MachineRecord) -> bool:
        """Tell whether the policy wants its guest to confirm fresh randomness before its network opens."""
        ...


def keep_floor(
    records: Records, machine: str, inventory: Inventory, knowledge: Knowledge | None, at: datetime
) -> Floor:
    """Raise a machine's floor to a state that it has been in, on record and in the log, and return it.

    Args:
        records: the record; no transaction is open.
        machine: UUID.
        inventory: the state.
        knowledge: the advisories that bear on it, None where there are none: nothing is raised then.
        at: when the state was read.
    """
    with records.reading() as reading:
        floor = reading.floor(machine)
    if knowledge is None or raised(floor, inventory, knowledge, at) is floor:
        return floor
    with records.transaction() as record:
        floor = record.floor(machine)
        higher = raised(floor, inventory, knowledge, at)
        if higher is not floor:
            put_raised(record, floor, higher, at)
    return higher


def looked(examiner: Examiner, machine: MachineRecord, state: str) -> tuple[Look | None, tuple[str, ...]]:
    """Return what a state holds, None where nothing can be seen, and why it is not whole."""
    try:
        look = examiner.look(machine, state)
    except UndercroftError as error:
        return None, (str(error),)
    problems = look.problems
    if not problems and (look.inventory is None or look.assessment is None):
        problems = ("it was not assessed",)
    return look, problems


def against_floor(floor: Floor, look: Look | None) -> tuple[tuple[Returning, ...], tuple[str, ...]]:
    """Return what a state lacks of the floor, and the sources whose versions prove nothing."""
    if look is None or look.inventory is None or look.assessment is None:
        return (), ()
    return returning(floor, look.inventory, look.assessment), unproven(floor, look.inventory, look.assessment)


def stands_below(judgement: Judgement, below: tuple[Returning, ...]) -> bool:
    """Tell whether the policy minds what is below the floor: it asks for it, and no exception covers it."""
    return bool(below) and not excused(judgement)


def excused(judgement: Judgement) -> bool:
    """Tell whether the policy does not mind what a state lacks or leaves unproven of the floor."""
    outcomes = [result.outcome for result in judgement.results if result.rule == FLOOR]
    return bool(outcomes) and all(outcome in {Outcome.PASS, Outcome.EXCEPTED} for outcome in outcomes)


def said_of_floor(judgement: Judgement) -> set[str]:
    """Return what the policy's own rule says of the floor."""
    return {result.reason for result in judgement.results if result.rule == FLOOR}


def below_sentence(below: tuple[Returning, ...], verb: str) -> str:
    """Return what is below the floor in words: "it would bring back 2 vulnerabilities that were fixed"."""
    releases = [item for item in below if not item.source]
    if releases:
        return f"the release goes back from {releases[0].floor_version} to {releases[0].installed_version}"
    exploited = sum(item.known_exploited_on is not None for item in below)
    fixed = "1 vulnerability that was" if len(below) == 1 else f"{len(below):,} vulnerabilities that were"
    known = f", {exploited:,} known to be exploited" if exploited else ""
    return f"{verb} {fixed} fixed{known}"


def unproven_sentence(source: str) -> str:
    """Return why a version proves nothing, in words."""
    return f"{source}: in a version that the machine is not known to have had, and no index lists it"
