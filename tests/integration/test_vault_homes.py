"""Two hosts of one record, each with its guest service, and a machine that moves between them.

The agents' part is the real one: what it reads from the record, and what it orders of the service.
"""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from memoryrecords import MemoryRecords
from recordvalues import NOW, execution, later
from tests.support.guesthost import MACHINE, PlayedGuest, ServiceProcess, eid, machine

from undercroft.adapters.guestservice import GuestService
from undercroft.agent.handover import Handover
from undercroft.errors import OperationError
from undercroft.usecases.fleet.history.events import PROVEN
from undercroft.usecases.fleet.history.rewinds import AT_ONCE
from undercroft.usecases.fleet.orders.examine import Order
from undercroft.usecases.fleet.orders.forget import forget
from undercroft.usecases.fleet.starts.lines import Line
from undercroft.usecases.vaults.homes import adopt

INCREMENT, SPEND = 1, 3
OK, REFUSED, FENCED = 0, 1, 2
ASKED = ([INCREMENT, b"builds", 3], [SPEND, b"token", False])


@dataclass
class Agent:
    """What one host's agent hands over, with its service."""

    name: str
    service: ServiceProcess
    client: GuestService
    hands: Handover
    records: MemoryRecords

    def restarted(self) -> None:
        """An agent that begins anew: it knows what the service has, and the record."""
        self.client.close()
        self.hands = Handover(self.records, self.name, self.client)
        self.hands.found(self.client.guests())

    def look(self, line: Line | None) -> bool:
        with self.records.reading() as record:
            homes = record.vault_homes()
        return self.hands.bring(line.machine if line is not None else MACHINE, line, homes)


class LineGuest(PlayedGuest):
    """A guest whose QEMU listens; the agent connects, and hands over."""

    def attach(self, service: Any, **options: Any) -> None:
        self._met = self.welcomes
        agent: Agent = service
        path = agent.service.folder / f"q{int(self.execution, 16)}"
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1)
            self.held = Line(self.machine, "web01", self.execution, str(path), 7, **options)
            assert agent.look(self.held)
            self.line, _ = listener.accept()


def _agents(factory: pytest.TempPathFactory, *names: str) -> Iterator[list[Agent]]:
    records, made = MemoryRecords(), []
    for name in names:
        service = ServiceProcess(factory.mktemp("h")).start()  # short: sockets lie in it
        client = service.client()
        made.append(Agent(name, service, client, Handover(records, name, client), records))
    yield made
    for each in made:
        each.client.close()
        each.service.close()


@pytest.fixture
def agents(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Agent]]:
    yield from _agents(tmp_path_factory, "host1", "host2")


@pytest.fixture
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    for found in _agents(tmp_path_factory, "host1"):
        yield found[0]


def began(agent: Agent, number: int, ending: str = "migrated") -> None:
    """The machine lives on this host, in another execution, on record."""
    with agent.records.transaction() as record:
        for one in record.live_executions():
            record.put_execution(replace(one, ended_at=later(number), ending=ending))
        record.put_execution(execution(number, MACHINE, host=agent.name))


def arrived(agent: Agent, number: int, **line: bool) -> LineGuest:
    began(agent, number)
    return LineGuest(agent, MACHINE, eid(number), 1000 * number, **line).meet()  # type: ignore[arg-type,return-value]


def test_a_machine_that_migrates_finds_its_vault_only_at_home(agents: list[Agent]) -> None:
    first, second = agents
    guest = arrived(first, 1)
    given, spent = guest.answer(*ASKED)
    assert [given[0], spent[0]] == [OK, OK]
    away = arrived(second, 2)
    first.look(None)
    assert away.seeds
    for answer in away.answer(*ASKED):
        assert answer[0] == FENCED
        assert "kept by host1: bring the machine back" in answer[2]
    second.restarted()
    assert not second.look(away.held)
    assert away.answer(*ASKED)[0][0] == FENCED
    back = arrived(first, 3)
    second.look(None)
    more, again = back.answer(*ASKED)
    assert more[:3] == [OK, 1, given[2] + 3]
    assert again[0] == REFUSED


def test_control_without_a_home_on_record_the_same_migration_repeats_and_spends_twice(
    agents: list[Agent],
) -> None:
    first, second = agents
    before = arrived(first, 1).answer(*ASKED)
    second.records = MemoryRecords()  # a record of its own, as if no home were noted
    second.hands = Handover(second.records, "host2", second.client)
    assert arrived(second, 2).answer(*ASKED) == before


def test_an_adopted_vault_is_served_at_once_above_all_that_was_given_out(agents: list[Agent]) -> None:
    first, second = agents
    given = arrived(first, 1).answer(*ASKED)[0]
    away = arrived(second, 2)
    first.look(None)
    with second.records.transaction() as record:
        adopt(record, MACHINE, "host2", by="alice", reason="host1 burned", now=NOW)
    with pytest.raises(Exception, match="not attached"):  # the service let all go with its new epoch
        second.look(away.held)
    second.hands.gone(MACHINE, eid(2))
    away.close()
    away.attach(second)
    away.meet()
    value, spent = away.answer(*ASKED)
    assert value[0] == OK
    assert value[2] > given[2] + 3, "no value comes again"
    assert spent[0] == OK, "what the old home knew is lost, as the command says"
    back = arrived(first, 3)
    second.look(None)
    assert back.answer(*ASKED)[0][2].startswith("its vault is kept by host2")


def test_while_the_record_is_away_no_vault_is_handed_over(first: Agent) -> None:
    class Away(MemoryRecords):
        def reading(self) -> Any:
            raise OperationError("the record is away")

    first.hands = Handover(Away(), "host1", first.client)
    with pytest.raises(OperationError, match="away"):
        first.hands.bring(MACHINE, Line(MACHINE, "web01", eid(1), "/nowhere", 7), None)
    assert not list(first.client.guests())


@pytest.mark.parametrize("ended", ["stopped", "lost"])
def test_a_fork_gets_the_fence_of_an_execution_that_ended_while_nobody_told_the_service(
    first: Agent, ended: str
) -> None:
    guest = arrived(first, 1)
    assert guest.answer(*ASKED)[0][0] == OK
    guest.close()
    first.service.kill()  # with the host: nobody says that the execution is over
    first.service.start()
    if ended == "lost":
        with first.records.transaction() as record:
            forget(record, "host1", Order("alice", NOW, "it burned", True), "host2")
        with first.records.reading() as record:
            assert record.live_executions() == ()
            assert record.vault_home(MACHINE).host == "host1"  # type: ignore[union-attr]
    first.restarted()
    began(first, 2, ended)
    fork = LineGuest(first, MACHINE, eid(2), 2000, forked=True).meet()  # type: ignore[arg-type]
    assert fork.answer(*ASKED)[0][0] == OK
    assert MACHINE not in first.hands.fenceless


def test_a_fork_of_who_lives_is_tried_again_until_that_one_has_ended(first: Agent) -> None:
    guest = arrived(first, 1)
    assert guest.answer(*ASKED)[0][0] == OK
    guest.close()
    with first.records.transaction() as record:
        record.put_execution(execution(2, MACHINE, host="host1"))
    first.restarted()
    first.hands.gone(MACHINE, eid(1))
    fork = LineGuest(first, MACHINE, eid(2), 2000, forked=True).meet()  # type: ignore[arg-type]
    assert fork.answer(*ASKED)[0][0] == FENCED
    assert MACHINE in first.hands.fenceless
    with first.records.transaction() as record:
        record.put_execution(replace(record.execution(eid(1)), ended_at=later(9), ending="stopped"))  # type: ignore[type-var]
    assert not first.look(fork.held)
    assert MACHINE not in first.hands.fenceless
    assert fork.answer(*ASKED)[0][0] == OK


def test_the_service_hears_that_an_execution_ended_whose_line_was_gone_first(first: Agent) -> None:
    arrived(first, 1).close()
    first.hands.gone(MACHINE, eid(1))
    assert first.client.vault(MACHINE)["lives"]
    began(first, 2)
    first.look(None)
    assert not first.client.vault(MACHINE)["lives"]


def test_only_the_machine_whose_proofs_come_too_often_waits(first: Agent) -> None:
    forger, other = machine(8), machine(7)
    now = datetime.now(UTC)
    with first.records.transaction() as record:
        for number in range(1, AT_ONCE + 3):
            begun = execution(number, forger, host="host1", evidence=(f"{PROVEN}a number that was seen",))
            ended = now if number < AT_ONCE + 2 else None
            at = now - timedelta(milliseconds=100 - number)
            record.put_execution(
                replace(begun, started_at=at, ended_at=ended, ending="superseded" * bool(ended))
            )
        record.put_execution(execution(70, other, host="host1"))
    for _ in range(3):
        assert not first.look(Line(forger, "forger", eid(AT_ONCE + 2), "/nowhere", 7))
        assert 60 < first.hands.slowed[forger].wait_s <= 120
    guest = LineGuest(first, other, eid(70), 7000).meet()  # type: ignore[arg-type]
    assert guest.answer(*ASKED)[0][0] == OK
    assert [one["machine"] for one in first.client.guests()] == [other]
    with first.records.reading() as record:
        alarms = [one.subject for one in record.log_entries() if one.kind == "alarm"]
    assert alarms == [forger], "once"
