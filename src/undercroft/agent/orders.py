"""What commands have done by themselves: read in the log, the only place where they and the agent meet.

A release opens a network by what the command read; the agent reads the machine too, so that its verdict
follows. libvirt tells nobody of a snapshot that is removed, so that the host is surveyed then.
"""

import asyncio
import json
from collections.abc import Callable

from undercroft.agent.host import Host
from undercroft.errors import UndercroftError
from undercroft.model.audit import AuditEntry
from undercroft.ports.records import Record
from undercroft.usecases.fleet.orders import release, retention

LOOK_EVERY_S = 1.0
LOOK_BACK = 1000
"""So many entries from before the agent's start are looked at: what was ordered while it was away."""
_PAGE = 1000


class Orders:
    """Follows the log.

    Args:
        host: the host.
        read: takes the UUID of a machine that is to be read.
        survey: asks for a survey.
    """

    def __init__(self, host: Host, read: Callable[[str], None], survey: Callable[[], None]) -> None:
        self._host = host
        self._read = read
        self._survey = survey

    async def run(self) -> None:
        """Follow for ever."""
        after = -1
        while True:
            try:
                after, found = await self._host.work(self._since, after)
            except UndercroftError as error:
                self._host.problem("the log is not followed for a moment", error)
                found = []
            for machine, surveyed in found:
                if surveyed:
                    self._survey()
                else:
                    self._read(machine)
            await asyncio.sleep(LOOK_EVERY_S)

    def _since(self, after: int) -> tuple[int, list[tuple[str, bool]]]:
        """Return how far the log was read, and the machines with whether a survey is what they need."""
        found: dict[tuple[str, bool], None] = {}
        with self._host.records.reading() as record:
            if after < 0:
                after = max(record.log_head()[1] - LOOK_BACK, 0)
            while entries := record.log_entries(after, _PAGE):
                after = entries[-1].number
                found |= dict.fromkeys(self._orders(record, entries))
        return after, list(found)

    def _orders(self, record: Record, entries: tuple[AuditEntry, ...]) -> list[tuple[str, bool]]:
        done = [
            (entry.subject, entry.kind == retention.KIND)
            for entry in entries
            if (entry.kind == release.KIND and json.loads(entry.body).get("outcome") == "done")
            or (entry.kind == retention.KIND and json.loads(entry.body).get("outcome") == "removed")
        ]
        here = {machine.domain.uuid for machine in record.machines(self._host.name)} if done else set()
        return [(machine, surveyed) for machine, surveyed in done if machine in here]
