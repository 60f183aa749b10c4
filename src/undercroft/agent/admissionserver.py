"""The socket on which the agent answers the hook, and the spool behind it.

Guarantees:
- every file of the spool reaches the handler, those of one machine in order and one at a time, also where the
  record or the disk fails for a while: what could not be handled comes before what is newer of its machine;
- a file is removed after the handler has returned, and only then: what the agent dies over comes again;
- whoever asks for a file gets the answer that was made for it, also when it was taken from the spool before;
- a malformed file, or one that the handler calls malformed, is moved aside and reported, and keeps no other
  back.

Only root and the agent's own user are answered.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from undercroft.adapters.hookfiles import (
    checked_event_name,
    read_event,
    remove_event,
    set_aside,
    spooled,
    sweep,
)
from undercroft.agent.ownsocket import is_trusted, listening
from undercroft.errors import InputError, NotFoundError, OperationError, UndercroftError
from undercroft.model.execution import HookEvent
from undercroft.model.schema import encode
from undercroft.model.verdict import Action

MAX_NAME_BYTES = 128
NAME_TIMEOUT_S = 5.0
DRAIN_EVERY_S = 3.0
MAX_CONNECTIONS = 512
KEPT_ANSWERS = 4096
"""Answers that are kept for hooks that ask after their file was taken; a hook asks at once or never."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a start gets.

    Attributes:
        action: what happens.
        hold: its taps stay closed until the agent has seen how it began; at `start`: until they have labels.
        reason: one sentence; virsh shows it where the start is refused.
        label: a filter is in force: the hook asks once more at `start`, where taps get their labels.
        leaves_open: interfaces that cannot be held stay open, which the policy allows; else it is refused.
    """

    action: Action
    hold: bool
    reason: str
    label: bool = False
    leaves_open: bool = False


Handler = Callable[[HookEvent], Awaitable[Answer | None]]
Report = Callable[[str], None]


class AdmissionServer:
    """One spool and one socket.

    async with AdmissionServer(places.state, places.admission_socket, handler, report):
        ...
    """

    def __init__(self, state: Path, address: Path, handler: Handler, report: Report) -> None:
        """Nothing is done before `start`.

        Args:
            state: the folder that holds `spool`.
            address: the socket's path, at most 107 bytes.
            handler: takes an event, records it and returns the answer, None where nothing waits for one. It
                gets an event again when it raised, or when the agent died before the file was removed.
            report: takes a message for the log.
        """
        self._state = state
        self._address = address
        self._handler = handler
        self._report = report
        self._taken: OrderedDict[str, asyncio.Task[Answer | None]] = OrderedDict()
        self._order: dict[str, asyncio.Task[Answer | None]] = {}
        self._behind: dict[str, set[str]] = {}
        self._again: set[str] = set()
        self._server: asyncio.AbstractServer | None = None
        self._drainer: asyncio.Task[None] | None = None
        self._lines: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def __aenter__(self) -> "AdmissionServer":
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()

    async def start(self) -> None:
        """Take what waits in the spool, in order, then listen. Raises OperationError, StateError."""
        await asyncio.to_thread(sweep, self._state, datetime.now(UTC))
        await self.drain()
        listener = listening(self._address, MAX_CONNECTIONS)
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listener, limit=MAX_NAME_BYTES, backlog=MAX_CONNECTIONS
        )
        self._drainer = asyncio.create_task(self._drain_for_ever())

    async def close(self) -> None:
        """Stop listening, and let the handlers that run come to their end."""
        if self._drainer is not None:
            self._drainer.cancel()
        if self._server is not None:
            self._server.close()
        self._address.unlink(missing_ok=True)
        await asyncio.gather(*self._running(), return_exceptions=True)
        lines = dict(self._lines)
        for writer in lines:
            writer.close()
        await asyncio.gather(*lines.values(), return_exceptions=True)

    async def drain(self) -> int:
        """Take all that waits in the spool, in order, and return how many files that were."""
        names = await asyncio.to_thread(spooled, self._state)
        for uuid, failed in list(self._behind.items()):
            for gone in failed.difference(names):  # the hook took it back
                self._caught_up(uuid, gone)
        for name in names:
            with suppress(Exception):  # reported where it was raised; the file stays
                await self._take(name)
        return len(names)

    def is_behind(self, uuid: str) -> bool:
        """Tell whether events of a machine are being handled, or failed and wait to be handled again."""
        return uuid in self._order or uuid in self._behind

    def _running(self) -> list[asyncio.Task[Answer | None]]:
        return [task for task in self._taken.values() if not task.done()]

    async def _drain_for_ever(self) -> None:
        while True:
            await asyncio.sleep(DRAIN_EVERY_S)
            self._forget_failures()
            try:
                await self.drain()
            except OperationError as error:
                self._report(str(error))

    def _forget_failures(self) -> None:
        failed = [
            name
            for name, task in self._taken.items()
            if task.done() and (task.cancelled() or task.exception())
        ]
        for name in (*failed, *self._again):
            self._taken.pop(name, None)
        self._again.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection; it is known from its first moment on, so that `close` leaves none behind."""
        self._lines[writer] = asyncio.create_task(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._lines) <= MAX_CONNECTIONS and is_trusted(writer.get_extra_info("socket")):
                await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass  # the hook went away or sent no name: it decides alone
        except asyncio.CancelledError:
            pass  # the agent ends; asyncio would log a cancelled connection as an error
        except Exception as error:  # noqa: BLE001 - the edge: told, answered with nothing
            self._report(f"admission: {type(error).__name__}: {error}")
        finally:
            del self._lines[writer]
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(NAME_TIMEOUT_S):
            untrusted_line = await reader.readuntil(b"\n")
        name = checked_event_name(untrusted_line[:-1].decode("ascii", "replace"))
        self._take_older(name)
        answer = await asyncio.shield(self._take(name))
        if answer is not None:
            writer.write(json.dumps(encode(answer)).encode() + b"\n")
            await writer.drain()

    def _take_older(self, name: str) -> None:
        """Take what lies in the spool from before, so that a machine's events keep their order."""
        for older in spooled(self._state):
            if older >= name:
                break
            self._take(older)

    def _take(self, name: str) -> asyncio.Task[Answer | None]:
        """Return the one task that handles a file."""
        task = self._taken.get(name)
        if task is None:
            task = asyncio.create_task(self._handle(name))
            # An exception that nobody asks for any more is no news: it was reported.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._taken[name] = task
            while len(self._taken) > KEPT_ANSWERS and next(iter(self._taken.values())).done():
                self._taken.popitem(last=False)
        return task

    async def _handle(self, name: str) -> Answer | None:
        """Handle one file. Nothing is awaited before it has its place behind its machine's earlier ones."""
        event = self._read(name)
        if event is None:
            return None
        earlier = self._order.get(event.uuid)
        current = asyncio.current_task()
        assert current is not None
        self._order[event.uuid] = current
        try:
            if earlier is not None:
                await asyncio.wait([earlier])
                if self._read(name) is None:
                    return None  # the hook took it back, or it was made up for
            await self._make_up(event.uuid, name)
            return await self._finish(name, event)
        except OperationError as error:
            self._behind.setdefault(event.uuid, set()).add(name)
            self._report(f"{name}: {event.operation} of {event.name}: it is tried again: {error}")
            raise
        except Exception as error:
            self._report(f"{name}: {event.operation} of {event.name}: {type(error).__name__}: {error}")
            raise
        finally:
            if self._order.get(event.uuid) is current:
                del self._order[event.uuid]

    async def _make_up(self, uuid: str, name: str) -> None:
        """Handle first what failed of a machine before. Raises what that raises, if it fails again."""
        for older in sorted(waiting for waiting in self._behind.get(uuid, ()) if waiting < name):
            event = self._read(older)
            if event is None:
                self._caught_up(uuid, older)
            else:
                await self._finish(older, event)
            self._taken.pop(older, None)

    async def _finish(self, name: str, event: HookEvent) -> Answer | None:
        try:
            answer = await self._handler(event)
        except OperationError:
            self._behind.setdefault(event.uuid, set()).add(name)
            raise
        except Exception as error:
            self._caught_up(event.uuid, name)
            if isinstance(error, InputError):
                set_aside(self._state, name)
            raise
        self._caught_up(event.uuid, name)
        try:
            await asyncio.to_thread(remove_event, self._state, name)
        except OperationError as error:
            # It is on record, and whoever waits gets the answer; the file is taken once more.
            self._report(f"{name}: {error}")
            self._again.add(name)
        return answer

    def _caught_up(self, uuid: str, name: str) -> None:
        behind = self._behind.get(uuid, set())
        behind.discard(name)
        if not behind:
            self._behind.pop(uuid, None)

    def _read(self, name: str) -> HookEvent | None:
        try:
            return read_event(self._state, name)
        except NotFoundError:
            return None  # it was taken before, and its answer is forgotten
        except InputError as error:
            try:
                self._report(f"{error}; moved to {set_aside(self._state, name)}")
            except UndercroftError as moving:
                self._report(f"{error}; and it cannot be moved aside: {moving}")
            return None
