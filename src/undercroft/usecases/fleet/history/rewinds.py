"""What a guest's channel proves: its memory was put back inside its process, whatever libvirt has said of it.

    begun = rewound(record, eid, "a number that was seen", at, "host1")

A load that libvirt told of as well is one execution, whichever word comes first.
"""

import secrets
from dataclasses import dataclass, replace
from datetime import datetime

from undercroft.lineage.start import StartFacts
from undercroft.model.execution import Execution, Origin
from undercroft.model.schema import Json
from undercroft.ports.records import Record
from undercroft.usecases.fleet.history.events import INSIDE, PROVEN
from undercroft.usecases.fleet.history.facts import RAN, concluded, end, own, put

MAX_PROOF_CHARACTERS = 400


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
