"""The admission socket and the spool behind it: order, exactly once, faults of the handler, bad input."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from undercroft.adapters import hookfiles
from undercroft.agent import admissionserver
from undercroft.agent.admissionserver import AdmissionServer, Answer
from undercroft.errors import InputError, OperationError
from undercroft.model.execution import HookEvent
from undercroft.model.schema import encode
from undercroft.model.verdict import Action

WEB = "c7a5fdbd-cdaf-9455-926a-d65c16db1809"
DB = "d7a5fdbd-cdaf-9455-926a-d65c16db1809"
ALLOW = Answer(Action.ALLOW, hold=True, reason="fine")


class Lab:
    """A spool, a socket, and a handler that keeps what it gets."""

    def __init__(self, root: Path) -> None:
        self.state = root / "state"
        self.address = root / "run" / "admission.sock"
        self.seen: list[HookEvent] = []
        self.reports: list[str] = []
        self.before: Callable[[HookEvent], Awaitable[None]] | None = None
        hookfiles.prepare_folders(self.state)

    async def handle(self, event: HookEvent) -> Answer | None:
        if self.before is not None:
            await self.before(event)
        self.seen.append(event)
        return ALLOW if event.operation == "prepare" else None

    def server(self) -> AdmissionServer:
        return AdmissionServer(self.state, self.address, self.handle, self.reports.append)

    def put(self, number: int, *, uuid: str = WEB, operation: str = "prepare", xml: str = "<domain/>") -> str:
        ident = f"{number:032x}"
        event = HookEvent(ident, number, "web01", uuid, operation, "begin", "-", "", xml)
        name = f"{number:020d}-{ident}.json"
        (self.state / "spool" / name).write_text(json.dumps(encode(event)))
        return name

    async def ask(self, line: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(str(self.address))
        writer.write(line)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    def numbers(self) -> list[int]:
        return [event.at_ns for event in self.seen]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_hook_gets_its_answer_and_its_file_is_gone(lab: Lab) -> None:
    async def run() -> bytes:
        async with lab.server():
            return await lab.ask(lab.put(1).encode() + b"\n")

    assert json.loads(asyncio.run(run())) == {
        "action": "allow",
        "hold": True,
        "reason": "fine",
        "label": False,
        "leaves_open": False,
    }
    assert hookfiles.spooled(lab.state) == []
    assert lab.numbers() == [1]


def test_what_waits_in_the_spool_is_taken_in_order_before_the_socket_is_there(lab: Lab) -> None:
    for number in (3, 1, 2):
        lab.put(number)

    async def handled_before_listening(event: HookEvent) -> None:
        assert not lab.address.exists()

    lab.before = handled_before_listening

    async def run() -> None:
        async with lab.server():
            pass

    asyncio.run(run())
    assert lab.numbers() == [1, 2, 3]
    assert lab.reports == []


def test_one_machine_s_events_are_handled_one_at_a_time_and_another_s_beside_them(lab: Lab) -> None:
    async def run() -> list[str]:
        gate, order = asyncio.Event(), list[str]()

        async def slow(event: HookEvent) -> None:
            order.append(f"in {event.at_ns}")
            if event.at_ns == 1:
                await gate.wait()
            order.append(f"out {event.at_ns}")

        lab.before = slow
        async with lab.server():
            names = [lab.put(1), lab.put(2), lab.put(3, uuid=DB)]
            asked = [asyncio.create_task(lab.ask(name.encode() + b"\n")) for name in names]
            await asked[2]
            gate.set()
            await asyncio.gather(*asked)
        return order

    assert asyncio.run(run()) == ["in 1", "in 3", "out 3", "out 1", "in 2", "out 2"]


def test_an_older_file_whose_hook_could_not_call_is_handled_first(lab: Lab) -> None:
    async def run() -> None:
        async with lab.server():
            lab.put(1)
            await lab.ask(lab.put(2).encode() + b"\n")

    asyncio.run(run())
    assert lab.numbers() == [1, 2]


def test_a_hook_that_asks_after_its_file_was_taken_gets_the_same_answer_and_it_counts_once(lab: Lab) -> None:
    async def run() -> tuple[bytes, bytes]:
        async with lab.server() as server:
            name = lab.put(1)
            await server.drain()
            return await lab.ask(name.encode() + b"\n"), await lab.ask(name.encode() + b"\n")

    first, second = asyncio.run(run())
    assert first == second != b""
    assert lab.numbers() == [1]


def test_a_handler_that_fails_answers_nothing_and_gets_the_event_again(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admissionserver, "DRAIN_EVERY_S", 0.01)
    attempts: list[int] = []

    async def fails_once(event: HookEvent) -> None:
        attempts.append(event.at_ns)
        if len(attempts) == 1:
            raise RuntimeError("database is away")

    lab.before = fails_once

    async def run() -> bytes:
        async with lab.server():
            answer = await lab.ask(lab.put(1).encode() + b"\n")
            while not lab.seen:
                await asyncio.sleep(0.01)
            return answer

    assert asyncio.run(run()) == b""
    assert lab.numbers() == [1]
    assert hookfiles.spooled(lab.state) == []
    assert "database is away" in lab.reports[0]


_HANGING_AGENT = """
import asyncio, sys
from pathlib import Path
from undercroft.agent.admissionserver import AdmissionServer

async def handle(event):
    print("took it", flush=True)
    await asyncio.sleep(3600)

async def main():
    await AdmissionServer(Path(sys.argv[1]), Path(sys.argv[2]), handle, print).start()

asyncio.run(main())
"""


def test_a_file_that_the_agent_died_over_comes_again(lab: Lab) -> None:
    lab.put(1)
    command = [sys.executable, "-c", _HANGING_AGENT, str(lab.state), str(lab.address)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == "took it\n"
        agent.kill()

    async def run() -> None:
        async with lab.server():
            pass

    asyncio.run(run())
    assert lab.numbers() == [1]


def test_a_malformed_file_is_moved_aside_and_keeps_no_other_back(lab: Lab) -> None:
    bad = [lab.put(number) for number in range(1, 8)]
    spool = lab.state / "spool"
    texts = ["", "{", "[]", "null", '{"ident": 1}', "[" * 100_000, '{"xml": 3}']
    for name, text in zip(bad, texts, strict=True):
        (spool / name).write_text(text)
    lab.put(8)

    async def run() -> None:
        async with lab.server():
            pass

    asyncio.run(run())
    assert lab.numbers() == [8]
    assert sorted(os.listdir(spool)) == ["bad"]
    assert sorted(os.listdir(spool / "bad")) == bad
    assert len(lab.reports) == 7


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"../run/x.json\n", b"a" * 500, b"\xff\xfe\n", b"/etc/passwd\n"]
)
def test_a_name_that_is_none_is_answered_with_nothing(lab: Lab, line: bytes) -> None:
    async def run() -> bytes:
        async with lab.server():
            reader, writer = await asyncio.open_unix_connection(str(lab.address))
            writer.write(line)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            return answer

    assert asyncio.run(run()) == b""
    assert lab.seen == []


def test_a_connection_that_has_said_nothing_ends_with_the_server(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admissionserver, "NAME_TIMEOUT_S", 600.0)

    async def run() -> bytes:
        async with lab.server() as server:
            reader, writer = await asyncio.open_unix_connection(str(lab.address))
            while not server._lines:
                await asyncio.sleep(0)
        answer = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        return answer

    assert asyncio.run(run()) == b""


def test_xml_longer_than_any_other_text_is_taken_whole(lab: Lab) -> None:
    xml = "<domain>" + "é" * 500_000 + "</domain>"
    lab.put(1, xml=xml)

    async def run() -> None:
        async with lab.server():
            pass

    asyncio.run(run())
    assert lab.seen[0].xml == xml


def test_what_a_killed_hook_left_half_written_is_removed_once_it_is_old(lab: Lab) -> None:
    old, young = lab.state / "spool" / ".old.json.1", lab.state / "run" / ".young.json.2"
    for path in (old, young):
        path.write_text("{")
    os.utime(old, (1, 1))

    async def run() -> None:
        async with lab.server():
            pass

    asyncio.run(run())
    assert not old.exists()
    assert young.exists()


def test_what_failed_comes_before_what_is_newer_of_its_machine_and_keeps_no_other_machine_back(
    lab: Lab,
) -> None:
    away: list[bool] = [True]

    async def record(event: HookEvent) -> None:
        if away[0] and event.uuid == WEB:
            raise OperationError("the record is away")

    lab.before = record

    async def run() -> list[bytes]:
        async with lab.server():
            names = [lab.put(1), lab.put(2, operation="started"), lab.put(3, uuid=DB), lab.put(4)]
            answers = [await lab.ask(name.encode() + b"\n") for name in names[:3]]
            away[0] = False
            return [*answers, await lab.ask(names[3].encode() + b"\n")]

    answers = asyncio.run(run())
    assert [bool(answer) for answer in answers] == [False, False, True, True]
    assert lab.numbers() == [3, 1, 2, 4]
    assert hookfiles.spooled(lab.state) == []


def test_while_what_came_before_still_fails_nothing_newer_of_its_machine_is_taken(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admissionserver, "DRAIN_EVERY_S", 0.01)
    failures = iter(range(7))

    async def record(event: HookEvent) -> None:
        if event.at_ns == 1 and next(failures, None) is not None:
            raise OperationError("the record is away")

    lab.before = record

    async def run() -> None:
        async with lab.server():
            for number in (1, 2, 3):
                await lab.ask(lab.put(number).encode() + b"\n")
            while hookfiles.spooled(lab.state):
                await asyncio.sleep(0.01)

    asyncio.run(run())
    assert lab.numbers() == [1, 2, 3]


def test_an_event_that_the_handler_calls_malformed_is_moved_aside_and_the_next_is_taken(lab: Lab) -> None:
    async def too_much(event: HookEvent) -> None:
        if event.at_ns == 1:
            raise InputError("domain XML: more than 1,000 disks")

    lab.before = too_much

    async def run() -> tuple[bytes, bytes]:
        async with lab.server():
            name = lab.put(1)
            return await lab.ask(name.encode() + b"\n"), await lab.ask(lab.put(2).encode() + b"\n")

    first, second = asyncio.run(run())
    assert (first, bool(second)) == (b"", True)
    assert lab.numbers() == [2]
    assert len(os.listdir(lab.state / "spool" / "bad")) == 1
    assert "more than 1,000 disks" in "".join(lab.reports)


def test_a_file_that_cannot_be_removed_costs_no_answer_and_is_taken_once_more(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admissionserver, "DRAIN_EVERY_S", 0.01)
    failures = iter(("No space left on device",))

    def remove(state: Path, name: str) -> None:
        if failure := next(failures, ""):
            raise OperationError(failure)
        hookfiles.remove_event(state, name)

    monkeypatch.setattr(admissionserver, "remove_event", remove)

    async def run() -> bytes:
        async with lab.server():
            answer = await lab.ask(lab.put(1).encode() + b"\n")
            while hookfiles.spooled(lab.state):
                await asyncio.sleep(0.01)
            return answer

    assert asyncio.run(run())
    assert lab.numbers() == [1, 1]


def test_a_file_that_the_hook_took_back_while_it_waited_is_not_handled(lab: Lab) -> None:
    async def run() -> None:
        gate = asyncio.Event()

        async def slow(event: HookEvent) -> None:
            if event.at_ns == 1:
                await gate.wait()

        lab.before = slow
        async with lab.server():
            first, second = lab.put(1), lab.put(2)
            asked = [asyncio.create_task(lab.ask(name.encode() + b"\n")) for name in (first, second)]
            await asyncio.sleep(0.05)  # both are taken: the second waits behind the first
            (lab.state / "spool" / second).unlink()
            gate.set()
            assert [bool(answer) for answer in await asyncio.gather(*asked)] == [True, False]

    asyncio.run(run())
    assert lab.numbers() == [1]


def test_bursts_of_a_thousand_starts_are_answered_in_order_each_once(lab: Lab) -> None:
    """Twenty events of each of fifty machines, asked for at once and in any order."""
    machines = [f"{number:08x}-cdaf-9455-926a-d65c16db1809" for number in range(50)]

    async def run() -> list[bytes]:
        async with lab.server():
            names = [lab.put(number + 1, uuid=machines[number % 50]) for number in range(1000)]
            asked: list[bytes] = []
            for start in range(0, 1000, 250):
                burst = names[start : start + 250]
                asked += await asyncio.gather(*(lab.ask(name.encode() + b"\n") for name in reversed(burst)))
            return asked

    answers = asyncio.run(run())
    assert all(json.loads(answer)["action"] == "allow" for answer in answers)
    assert sorted(lab.numbers()) == list(range(1, 1001))
    for machine in machines:
        own = [event.at_ns for event in lab.seen if event.uuid == machine]
        assert own == sorted(own)
    assert hookfiles.spooled(lab.state) == []
    assert lab.reports == []
