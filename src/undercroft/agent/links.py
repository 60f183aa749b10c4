"""Taps that are closed stay closed: whoever puts one back onto a bridge is undone, with an alarm.

One that is open, and was put onto a bridge, is shielded anew: a port loses its settings when it leaves.

Who opens a network rightly does so inside the transaction that drops its hold; who closes it here waits for
that transaction to end, and so never closes what was just released.
"""

import asyncio

from undercroft.adapters import netlink
from undercroft.agent.host import Host, now
from undercroft.errors import UndercroftError
from undercroft.model.fleet import Hold
from undercroft.model.schema import Json
from undercroft.ports.records import Record
from undercroft.usecases.fleet.starts.network import is_of_host, keep_closed

PAUSE_S = 1.0


class Links:
    """Watches the host's links."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def run(self) -> None:
        """Watch for ever; after a gap every tap is looked at."""
        while True:
            try:
                await self._host.work(self._close_all)
                async for link in netlink.watch_links():
                    if not link.gone and (link.master or link.up):
                        await self._host.work(self._close, link.name)
            except UndercroftError as error:
                self._host.problem("links are not watched for a moment", error)
                await asyncio.sleep(PAUSE_S)

    def _close_all(self) -> None:
        for hold in self._holds():
            self._keep_closed(hold.machine)

    def _close(self, tap: str) -> None:
        self._host.means.filter.put_back(tap)  # whatever becomes of the record
        for hold in self._holds():
            if any(held.tap == tap for held in hold.taps):
                self._keep_closed(hold.machine)

    def _holds(self) -> tuple[Hold, ...]:
        """Return this host's holds: the taps of another host's have the names of other machines' here."""
        with self._host.records.reading() as record:
            return tuple(hold for hold in record.holds() if is_of_host(record, hold, self._host.name))

    def _keep_closed(self, machine: str) -> None:
        try:
            with self._host.records.transaction() as record:
                for hold in record.holds():
                    if hold.machine == machine and (opened := keep_closed(self._host.taps, hold)):
                        self._alarm(record, hold, opened)
        except UndercroftError as error:
            self._host.problem(f"machine {machine}: its network should be closed", error)

    def _alarm(self, record: Record, hold: Hold, opened: tuple[str, ...]) -> None:
        reason = f"somebody opened {', '.join(opened)}, which is closed: {hold.reason}"
        body: dict[str, Json] = {"alarm": "opened", "executions": [hold.eid], "reason": reason}
        record.log("alarm", hold.machine, body, now())
        self._host.report(f"alarm: machine {hold.machine}: {reason}; it is closed again")
