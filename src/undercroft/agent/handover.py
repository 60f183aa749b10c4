"""What the guest service holds of each machine, brought in line with what it should: one order after another.

A vault is handed over only where its home is, which is on record before (`usecases.vaults.homes`). Where the
record is away, nobody knows, and nothing is handed over.

    hands = Handover(records, "host1", service)
    hands.bring(machine, line, homes)      # in the thread that may wait for the service
"""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from undercroft.adapters import channelsocket
from undercroft.adapters.guestservice import GuestService
from undercroft.agent.host import now
from undercroft.errors import NotFoundError, StateError
from undercroft.model.vaulthome import VaultHome
from undercroft.ports.records import Records
from undercroft.usecases.fleet.history.rewinds import EVERY, allowance, log_slowed
from undercroft.usecases.fleet.starts.lines import Line
from undercroft.usecases.vaults.homes import Place, placed

ANSWER_S = 2.0
"""How long a guest that is in doubt has to say where it stands, until it goes on in its new execution."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """For which execution a guest was asked where it stands, and until when its answer is waited for."""

    eid: str
    until: float


@dataclass(frozen=True, slots=True)
class Slowed:
    """For how many seconds a machine has to wait, and why, in a sentence: "" where that was told before."""

    wait_s: float
    reason: str


class Handover:
    """Hands lines over, and takes them back.

    Args:
        records: the record.
        host: this host's name.
        service: the guest service's client.

    Attributes:
        given: what the service holds, by machine.
        fenceless: forks that another execution keeps from their vault, which are to be tried again.
        asked: machines that were asked where they stand.
        slowed: machines that were put back too often to be handed over yet, as `bring` found last.
    """

    def __init__(self, records: Records, host: str, service: GuestService) -> None:
        self._records, self._host, self._service = records, host, service
        self.given: dict[str, Line] = {}
        self.fenceless: set[str] = set()
        self.asked: dict[str, _Asked] = {}
        self.slowed: dict[str, Slowed] = {}
        self._slow: set[str] = set()
        self._elsewhere: dict[str, str] = {}
        self._over: dict[str, Line] = {}

    def found(self, guests: Iterable[Mapping[str, object]]) -> None:
        """Take what the service has by itself: it goes on without an agent. Raises KeyError for no guest."""
        self.given.clear()
        self.fenceless.clear()
        for one in guests:
            machine = str(one["machine"])
            self.given[machine] = Line(machine, str(one["name"]), str(one["execution"]), "", process=0)
            self._elsewhere[machine] = str(one.get("elsewhere", ""))

    def gone(self, machine: str, eid: str) -> bool:
        """Take note of a line that has ended; False where it is not the one that is held."""
        given = self.given.get(machine)
        if given is None or given.eid != eid:
            return False
        self._over[machine] = self.given.pop(machine)
        return True

    def answered(self, machine: str) -> bool:
        """Take note of a guest that says where it stands; False where it was not asked."""
        if machine not in self.asked:
            return False
        self.asked[machine] = replace(self.asked[machine], until=0.0)
        return True

    def lives(self, machine: str) -> bool:
        """Tell whether what the service holds or held of a machine lives by the record."""
        last = self.given.get(machine) or self._over.get(machine)
        with self._records.reading() as record:
            known = record.execution(last.eid) if last is not None else None
        return known is not None and known.live

    def bring(self, machine: str, line: Line | None, homes: Mapping[str, VaultHome] | None) -> bool:
        """Have the service hold a machine's line, and no other of it; tell whether it was handed over now.

        Args:
            machine: UUID.
            line: its line, None where it is to have none.
            homes: which host keeps which vault, None where that cannot be told: what is held stays.

        Raises OperationError, StateError: the record, the service or the line cannot be reached or refuses.
        """
        self.slowed.pop(machine, None)
        given = self.given.get(machine)
        if line is None:
            last = given or self._over.get(machine)
            if last is not None:
                self._let_go(last)
            return False
        if given is not None and given.eid == line.eid and given.process in {line.process, 0}:
            self.given[machine] = line
            if machine in self.fenceless or not self._is_as_told(machine, homes):
                self._renew(line, line.eid)
            return False
        if given is not None and given.process == line.process:
            if line.doubtful and self._waits_for_proof(given, line):
                return False
            self.asked.pop(machine, None)
            if not self._is_slowed(line):
                self._renew(line, given.eid)
            return False
        if given is not None:
            self._let_go(given, ended=given.eid != line.eid)
        if self._is_slowed(line):
            return False
        self._attach(line)
        return True

    def _is_slowed(self, line: Line) -> bool:
        """Tell whether a machine that was put back too often has to wait; with an alarm when that begins."""
        machine, at = line.machine, now()
        with self._records.reading() as record:
            left, known = allowance(record, machine, at), record.execution(line.eid)
        if left >= 1:
            self._slow.discard(machine)
        if left >= 0:
            return False
        reason = ""
        if machine not in self._slow and known is not None:
            with self._records.transaction() as record:
                reason = log_slowed(record, known, at)
            self._slow.add(machine)
        self.slowed[machine] = Slowed(-left * EVERY.total_seconds(), reason)
        return True

    def _attach(self, line: Line) -> None:
        place = self._placed(line.machine)
        with channelsocket.connected(line.path) as connection:
            fence = self._service.attach(
                line.machine,
                line.name,
                line.eid,
                connection.fileno(),
                forked=line.forked,
                elsewhere=place.elsewhere,
                epoch=place.epoch,
            )
        self._over.pop(line.machine, None)
        self._told(line, place, fence=fence)

    def _renew(self, line: Line, before: str) -> None:
        place = self._placed(line.machine)
        fence = self._service.renew(
            line.machine,
            line.eid,
            forked=line.forked,
            before=before,
            elsewhere=place.elsewhere,
            epoch=place.epoch,
        )
        self._told(line, place, fence=fence)

    def _let_go(self, given: Line, *, ended: bool = True) -> None:
        with suppress(NotFoundError):  # its line has ended by itself
            self._service.detach(given.machine, given.eid, ended=ended)
        for kept in (self.given, self._over, self._elsewhere):
            kept.pop(given.machine, None)
        self.fenceless.discard(given.machine)

    def _waits_for_proof(self, given: Line, line: Line) -> bool:
        """Have a guest that libvirt's word leaves in doubt say at once where it stands; True: it may yet say.

        A guest that was put back proves it by its answer in the execution that is over.
        """
        asked = self.asked.get(given.machine)
        if asked is not None and asked.eid == line.eid:
            return time.monotonic() < asked.until
        try:
            self._service.again(given.machine, given.eid)
        except (NotFoundError, StateError):
            return False  # there is nobody to ask, or it is proven already
        self.asked[given.machine] = _Asked(line.eid, time.monotonic() + ANSWER_S)
        return True

    # Vaults

    def _placed(self, machine: str) -> Place:
        return placed(self._records, self._service, machine, self._host, now())

    def _is_as_told(self, machine: str, homes: Mapping[str, VaultHome] | None) -> bool:
        """Tell whether a vault's home is what the service was told of it."""
        if homes is None:
            return True
        home = homes.get(machine)
        keeps = "" if home is None or home.host == self._host else home.host
        return home is not None and self._elsewhere.get(machine) == keeps

    def _told(self, line: Line, place: Place, *, fence: bool) -> None:
        """Take note of what the service holds now, and see to a fork that was refused its fence.

        The service keeps it for an execution that ended while it or the agent was away: nobody has told it.
        """
        machine = line.machine
        self.given[machine], self._elsewhere[machine] = line, place.elsewhere
        self.fenceless.discard(machine)
        if fence or place.elsewhere or not line.forked:
            return
        self.fenceless.add(machine)
        holder = str(self._service.vault(machine).get("holder"))
        with self._records.reading() as record:
            known = record.execution(holder)
        if holder == line.eid or known is None or known.machine != machine or known.live:
            return
        self._service.detach(machine, holder, ended=True)
        if self._service.renew(machine, line.eid, forked=True, epoch=place.epoch):
            self.fenceless.discard(machine)
