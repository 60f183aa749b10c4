"""What commands have done by themselves, as the log has it: the only place where they and the agent meet."""

import json
from dataclasses import dataclass

from undercroft.model.audit import AuditEntry
from undercroft.ports.records import Record
from undercroft.usecases.fleet.orders import forget, release, retention
from undercroft.usecases.vaults import homes

LOOK_BACK = 1000
"""So many entries from before the agent's start are looked at: what was ordered while it was away."""
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Ordered:
    """What was done to a machine of a host. `surveyed`: a survey is what follows, else a reading of it.

    `rehomed`: neither; its vault has another home, and its guest is told.
    `machine`: UUID, "" where a host was forgotten: this one, which is surveyed as it is there, or another.
    """

    machine: str
    surveyed: bool
    rehomed: bool = False


def ordered(record: Record, host: str, after: int) -> tuple[int, list[Ordered]]:
    """Return how far the log was read, and what was done since then, each once, in order.

    Args:
        record: an open transaction.
        host: what was done to machines of others is left out.
        after: number of the last entry that was read, less than 0 for none yet.

    Raises:
        OperationError: the record cannot be read.
    """
    found: dict[Ordered, None] = {}
    if after < 0:
        after = max(record.log_head()[1] - LOOK_BACK, 0)
    while entries := record.log_entries(after, _PAGE):
        after = entries[-1].number
        done = [
            Ordered(entry.subject, entry.kind == retention.KIND, entry.kind == homes.KIND)
            for entry in entries
            if _is_done(entry)
        ]
        here = {machine.domain.uuid for machine in record.machines(host)} if done else set()
        found |= dict.fromkeys(one for one in done if one.machine in here)
        for forgotten in (entry.subject for entry in entries if entry.kind == forget.KIND):
            found[Ordered("", surveyed=forgotten == host)] = None
    return after, list(found)


def _is_done(entry: AuditEntry) -> bool:
    """Tell whether an entry is an order that was carried out."""
    wanted = {release.KIND: "done", retention.KIND: "removed", homes.KIND: "adopted"}.get(entry.kind)
    if wanted is None:
        return False
    try:
        body = json.loads(entry.body)
    except ValueError:
        return False  # what has become of the log `audit verify` tells; it must not keep the agent away
    return isinstance(body, dict) and body.get("outcome") == wanted
