"""What follows from what commands have done by themselves.

A release opens a network by what the command read; the agent reads the machine too, so that its verdict
follows. libvirt tells nobody of a snapshot that is removed, so that the host is surveyed then. What a host
had that was forgotten is free: a machine that was started here in place of one of its machines waited. A
vault that got another home is served there from now on, and nowhere else.
"""

import asyncio
from collections.abc import Callable, Iterable

from undercroft.agent.host import Host
from undercroft.errors import UndercroftError
from undercroft.usecases.fleet.orders.ordered import Ordered, ordered

LOOK_EVERY_S = 1.0


class Orders:
    """Follows the log.

    Args:
        host: the host.
        read: takes the UUID of a machine that is to be read.
        survey: asks for a survey.
        confirm: has starts confirmed at once that could not be.
        lines: takes machines whose channel is to be handed over anew.
    """

    def __init__(
        self,
        host: Host,
        read: Callable[[str], None],
        survey: Callable[[], None],
        confirm: Callable[[], None],
        lines: Callable[[Iterable[str]], None] = lambda _: None,
    ) -> None:
        self._host = host
        self._confirm = confirm
        self._lines = lines
        self._read = read
        self._survey = survey

    async def run(self) -> None:
        """Follow for ever."""
        after = -1
        while True:
            found: list[Ordered] = []
            try:
                after, found = await self._host.work(self._since, after)
            except UndercroftError as error:
                self._host.problem("the log is not followed for a moment", error)
            for one in found:
                if one.rehomed:
                    self._lines([one.machine])
                elif one.surveyed:
                    self._survey()
                elif not one.machine:
                    self._confirm()
                else:
                    self._read(one.machine)
            await asyncio.sleep(LOOK_EVERY_S)

    def _since(self, after: int) -> tuple[int, list[Ordered]]:
        with self._host.records.reading() as record:
            return ordered(record, self._host.name, after)
