"""What a guest's channel proves: its memory was put back inside its process, whatever libvirt has said of it.

    begun = rewound(record, eid, "a number that was seen", at, "host1")

A load that libvirt told of as well is one execution, whichever word comes first.

A guest can forge a proof, by saying twice what it said once, in each session that it is given. Each ends an
execution and begins one, and a vault takes 100,000 of them. So the execution that a proof begins is handed to
the guest service at once a few times only, and then once a minute (`allowance`): without a session no proof
comes. Its port stays closed meanwhile, where the policy wants a seed of it: its guest has confirmed none.
"""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from undercroft.lineage.start import StartFacts
from undercroft.model.execution import Execution, Origin
from undercroft.model.schema import Json
from undercroft.ports.records import Record
from undercroft.usecases.fleet.history.events import INSIDE, PROVEN
from undercroft.usecases.fleet.history.facts import RAN, concluded, end, own, put

MAX_PROOF_CHARACTERS = 400
AT_ONCE = 8
"""So many executions that proofs began are handed over without a pause, where there were none before."""
EVERY = timedelta(minutes=1)
"""After which there may be one more."""


@dataclass(frozen=True, slots=True)
class Put:
    """What a proof led to: the execution that lives now, and whether it began with this proof."""

    execution: Execution
    is_new: bool


def rewound(record: Record, eid: str, untrusted_proof: str, at: datetime, host: str) -> Put | None:
    """End the execution that was put back, and begin the one that goes on in its place; with an alarm.

    Args:
        record: a transaction.
        eid: the execution that the proof is of.
        untrusted_proof: one sentence; what was proven is the guest service's word.
        at: when.
        host: this host's name.

    Returns:
        The execution that lives now; None where none of that machine does here.
    """
    proven = record.execution(eid)
    if proven is None or proven.host != host:
        return None
    sentence = f"{PROVEN}{untrusted_proof[:MAX_PROOF_CHARACTERS]}"
    live = next((one for one in reversed(own(record, proven.machine)) if one.live and one.host == host), None)
    if live is None:
        return None
    if live.eid == proven.eid:
        begun = _begun(record, live, sentence, at)
        _alarm(record, proven, begun, sentence, at)
        return Put(begun, is_new=True)
    if live.origin is Origin.LOAD and live.parent == proven.eid and sentence not in live.evidence:
        live = put(record, replace(live, certain=True, evidence=(*live.evidence, sentence)))
        _alarm(record, proven, live, sentence, at)
    return Put(live, is_new=False)


def allowance(record: Record, machine: str, now: datetime) -> float:
    """Return how many executions that proofs begin a machine may be handed over in without a pause.

    Counted over its latest `facts.RECENT` executions: where it goes on for hours, some more than that.

    Args:
        record: an open transaction.
        machine: UUID.
        now: when.

    Returns:
        `AT_ONCE` at most; below 0 for one that has to wait `EVERY` times that.
    """
    left, before = float(AT_ONCE), now
    for one in own(record, machine):
        if any(sentence.startswith(PROVEN) for sentence in one.evidence):
            left = _regained(left, before, one.started_at) - 1
            before = one.started_at
    return _regained(left, before, now)


def _regained(left: float, before: datetime, now: datetime) -> float:
    return min(float(AT_ONCE), left + max(0.0, (now - before) / EVERY))


def log_slowed(record: Record, execution: Execution, at: datetime) -> str:
    """Log an alarm that a machine is handed over later, as it was put back too often; return its sentence."""
    reason = (
        f"{execution.name}: its channel proves over and over that it was put back, or its guest forges "
        "that: it has one session a minute from now on, in between neither fresh randomness nor a vault"
    )
    body: dict[str, Json] = {"alarm": "rewinds", "executions": [execution.eid], "reason": reason}
    record.log("alarm", execution.machine, body, at)
    return reason


def _begun(record: Record, live: Execution, sentence: str, at: datetime) -> Execution:
    facts = StartFacts(
        live.machine, live.name, live.host, max(at, live.started_at), secrets.token_hex(16), loaded=True
    )
    begun = replace(concluded(record, facts), parent=live.eid, evidence=(RAN, INSIDE, sentence), certain=True)
    end(record, live, "superseded", facts.at)
    return put(record, begun)


def _alarm(record: Record, before: Execution, after: Execution, sentence: str, at: datetime) -> None:
    reason = f"{after.name}: {sentence}"
    body: dict[str, Json] = {"alarm": "rewound", "executions": [before.eid, after.eid], "reason": reason}
    record.log("alarm", after.machine, body, at)
